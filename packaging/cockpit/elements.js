// Builds elements. Texts become text nodes, never markup: names of processes and paths can contain anything.

const SVG = "http://www.w3.org/2000/svg";

// element("p.hw-note", { id: "x", onclick: f }, "text", child): an element with classes, attributes and children.
export function element(name, attributes = {}, ...children) {
    const [tag, ...classes] = name.split(".");
    return fill(document.createElement(tag), classes, attributes, children);
}

export function drawing(name, attributes = {}, ...children) {
    const [tag, ...classes] = name.split(".");
    return fill(document.createElementNS(SVG, tag), classes, attributes, children);
}

function fill(node, classes, attributes, children) {
    node.classList.add(...classes);
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on"))
            node.addEventListener(key.slice(2), value);
        else if (value !== null && value !== undefined && value !== false)
            node.setAttribute(key, value === true ? "" : String(value));
    }
    node.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
    return node;
}

// A button in PatternFly's classes of Cockpit's versions (4, 5 and 6).
export function button(kind, text, onclick, attributes = {}) {
    const classes = ["c", "v5-c", "v6-c"].map(version => `pf-${version}-button`).join(".");
    return element(`button.${classes}.pf-m-${kind}.hw-button`, { type: "button", onclick, ...attributes }, text);
}

// Text that is folded away.
export function folded(summary, ...children) {
    return element("details.hw-folded", {}, element("summary", {}, summary), ...children);
}

// A path, which may wrap after each slash.
export function breakable(path) {
    return path.split(/(?<=\/)/).map(part => [part, element("wbr")]);
}

export function code(text) {
    return element("code", {}, text);
}

// Says a text to screen readers.
export function announce(text) {
    document.getElementById("announcement").textContent = text;
}

// A box of information: kind is info, warning, danger or success.
export function box(kind, title, ...children) {
    const role = kind === "danger" ? "alert" : undefined;
    return element(`div.hw-box.hw-${kind}`, { role }, element("p.hw-box-title", {}, title), ...children);
}

export function notes(list, exceptIds = []) {
    const shown = list.filter(note => !exceptIds.includes(note.id));
    return shown.length === 0 ? null : element("ul.hw-notes", {}, shown.map(note => element("li", {}, note.text)));
}
