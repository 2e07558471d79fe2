// The table of units with denials: units that fail now first, then the newest denial.

/* global cockpit */

import { run } from "./client.js";
import { box, breakable, element, folded, notes } from "./elements.js";
import { countByHour, hoursOfRow, mostInAnHour } from "./hours.js";
import { age, local } from "./times.js";

// The states of `harden-why`, in the order of the table, with their meaning.
export const STATES = {
    failing: ["danger", "systemd reports a failure, and the newest denial is after the latest start."],
    running: ["warning", "It runs under settings that deny the calls."],
    restart: ["info", "The settings now permit the calls, and take effect at the next start."],
    reload: ["info", "The files now permit the calls, and the manager has not read them."],
    failed: ["warning", "It failed, and nothing was denied since the latest start."],
    inactive: ["neutral", "It does not run."],
    unknown: ["neutral", "The state is not known."],
    gone: ["neutral", "Its manager knows no such unit."],
    fixed: ["success", "The settings now permit the calls."],
};

export function stateLabel(state) {
    const name = state && state in STATES ? state : "unknown";
    const [kind, meaning] = STATES[name];
    return element(`span.hw-label.hw-label-${kind}`, { title: meaning }, name);
}

function sorted(rows) {
    const order = Object.keys(STATES);
    const rank = row => (row.state === "failing" ? 0 : row.state === "fixed" ? 2 : 1);
    return [...rows].sort((one, other) => rank(one) - rank(other) ||
        String(other.last).localeCompare(String(one.last)) ||
        order.indexOf(one.state) - order.indexOf(other.state));
}

// Returns the overview, or an explanation of its absence.
export async function overview() {
    let answer;
    try {
        answer = await run(["--all"]);
    } catch (error) {
        return [box("danger", "The denials cannot be listed.", element("p", {}, error.message))];
    }
    const rows = sorted(answer.overview || []);
    return [
        rows.length === 0 ? nothing() : table(rows),
        silentUnits(answer.silent || []),
        notes(answer.notes || []),
    ];
}

function nothing() {
    return element("div.hw-empty", {},
        element("h2", {}, "No denials"),
        element("p", {}, "Nothing was denied to a unit since harden-whyd began to listen. A new denial appears here at once."));
}

function table(rows, now = Date.now()) {
    const heads = ["Unit", "State", "Calls", "Count", "Last 24 hours", "Last", "Decided by"];
    const counted = rows.map(({ times }) => countByHour(times || [], now));
    const most = mostInAnHour(counted.flatMap(({ hours }) => hours));
    const between = counted.reduce((sum, unit) => sum + unit.between, 0);
    return [
        element("table.hw-table", { "aria-label": "Units with denials" },
            element("thead", {}, element("tr", {}, heads.map(head => element("th", { scope: "col" }, head)))),
            element("tbody", {}, rows.map((one, index) => row(one, hoursOfRow(counted[index].hours, most))))),
        element("p.hw-place", {}, "The bars show the denials of each hour. All units have one scale: ",
            `the highest bar is ${most}.`,
            between > 0 && ` ${between} more happened between the first and the latest of their kind, in hours that are not stored.`),
    ];
}

function row({ unit, manager, state, calls, count, last, decided_by: places }, hours) {
    const cell = (label, ...content) => element("td", { "data-label": label }, element("span", {}, content));
    return element("tr", { "data-unit": unit },
        element("th", { scope: "row" }, unitLink(unit, manager)),
        cell("State", stateLabel(state)),
        cell("Calls", (calls || []).join(", ")),
        cell("Count", String(count)),
        cell("Last 24 hours", hours),
        cell("Last", element("time", { datetime: last, title: local(last) }, last ? age(last) : "")),
        cell("Decided by", (places || []).map(place => element("div.hw-place", {}, breakable(place)))));
}

function unitLink(unit, manager) {
    if (!unit)
        return element("span", {}, "(unknown unit)");
    const path = [manager || "system", unit];
    const link = element("a", {
        href: `#${cockpit.location.encode(path)}`,
        onclick: event => {
            event.preventDefault();
            cockpit.location.go(path);
        },
    }, unit);
    return manager && manager !== "system" ? [link, ` (${manager})`] : link;
}

function silentUnits(silent) {
    if (silent.length === 0)
        return null;
    return folded(`Units that can be refused calls without a record (${silent.length})`,
        element("p", {}, "Their settings refuse calls with an error, which the kernel does not log. Open a unit to rehearse " +
            "it, or to log its refusals for an hour."),
        element("ul.hw-columns", {}, silent.map(({ unit, manager, directives }) =>
            element("li", {}, unitLink(unit, manager), element("div.hw-place", {}, (directives || []).join(", "))))));
}
