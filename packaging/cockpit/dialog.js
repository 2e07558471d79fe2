// Questions before changes. The browser's own dialog keeps the keyboard inside, closes on Escape and gives the focus back.

import { box, button, element } from "./elements.js";

let number = 0;

// Shows a question and returns whether the person confirmed it.
export function ask({ title, body, confirm, kind = "primary" }) {
    return new Promise(resolve => {
        const id = `hw-dialog-${++number}`;
        const close = value => { dialog.close(value); };
        const dialog = element("dialog.hw-dialog", { "aria-labelledby": id },
            element("h2", { id }, title),
            element("div.hw-dialog-body", {}, body),
            element("div.hw-actions", {},
                button(kind, confirm, () => close("yes")),
                button("link", "Cancel", () => close(""))));
        show(dialog, value => resolve(value === "yes"));
    });
}

// Shows a message until the person closes it.
export function tell(title, ...body) {
    const id = `hw-dialog-${++number}`;
    const dialog = element("dialog.hw-dialog", { "aria-labelledby": id },
        element("h2", { id }, title),
        element("div.hw-dialog-body", {}, body),
        element("div.hw-actions", {}, button("primary", "Close", () => dialog.close())));
    show(dialog, () => {});
}

export function tellError(title, error) {
    tell(title, box("danger", error.message));
}

function show(dialog, closed) {
    document.body.append(dialog);
    dialog.addEventListener("close", () => {
        dialog.remove();
        closed(dialog.returnValue);
    });
    dialog.showModal();
}
