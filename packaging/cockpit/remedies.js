// The remedies: the suggested one as the lines that it adds, the others folded.

import { applyRemedy } from "./actions.js";
import { box, breakable, button, element, folded } from "./elements.js";
import { plural } from "./times.js";

const KEPT = {
    "before-exec": "systemd made the call itself, before it executed the program",
    "has-fallback": "most callers make an older call instead",
    "library-probe": "libraries look for the file and do without it",
    "unknown-argument": "it depends on arguments that no record holds",
    "wider-than-denied": "it opens more than was denied",
    "keeps-denying": "the calls still fail, with an error instead of a kill",
    "other-architecture": "no executable of the unit that was read is of this architecture",
    "possible-intrusion": "the call may come from an intruder",
};

export function remedies(answer, context) {
    const numbered = answer.remedies.map((remedy, index) => ({ remedy, number: index + 1 }));
    const suggested = numbered.find(({ remedy }) => remedy.default);
    const others = numbered.filter(one => one !== suggested);
    return element("section", { "aria-label": "Remedies" },
        suggested && element("div.hw-suggested", {},
            element("h2", {}, "Suggested remedy"),
            element("p", {}, suggested.remedy.title),
            describe(suggested.remedy)),
        !suggested && others.length > 0 &&
            element("p", {}, "harden-why suggests none of the remedies: each has a caution. Choose one yourself."),
        others.length > 0 && folded(`${plural(others.length, suggested ? "other remedy" : "remedy").replace("remedys", "remedies")}`,
            others.map(({ remedy, number }) => element("div.hw-remedy", {},
                element("h3", {}, `${number}. ${remedy.title}`),
                remedy.reservation && element("p", {}, `Not suggested: ${KEPT[remedy.reservation] || remedy.reservation}.`),
                describe(remedy),
                remedy.path && button("secondary", `Apply remedy ${number}`,
                    () => applyRemedy(context, { remedy: number, restart: false }))))),
        unproven(answer.unproven),
        configuration(answer.configuration));
}

function describe(remedy) {
    return [
        element("p.hw-place", {}, remedy.path ? breakable(remedy.path) : "No drop-in: the unit is transient."),
        element("pre.hw-added", {}, lines(remedy).map(line => element("span", {}, `+ ${line}\n`))),
        remedy.command && element("pre.hw-command", {}, remedy.command),
        exposure(remedy.exposure),
        opened(remedy),
        (remedy.cautions || []).map(caution => box("warning", caution)),
        remedy.sensitive.length > 0 && box("warning", "This remedy allows calls that administer the machine.",
            element("p", {}, remedy.sensitive.map(({ call, group }) => `${call} (${group})`).join(", "))),
        remedy.conditional.length > 0 &&
            element("p", {}, `Pass only with some arguments: ${remedy.conditional.join(", ")}.`),
    ];
}

// The lines without comments and empty lines.
export function lines(remedy) {
    return remedy.content.split("\n").filter(line => line.trim() !== "" && !line.startsWith("#"));
}

function exposure(score) {
    if (!score)
        return null;
    const change = score.before === score.after
        ? `Exposure stays ${score.before.toFixed(1)}`
        : `Exposure: ${score.before.toFixed(1)} before, ${score.after.toFixed(1)} after`;
    return element("p", {}, `${change} (systemd-analyze security, 10 is the most exposed).`);
}

// What the remedy allows besides the denied calls, with the reason for each call.
function opened(remedy) {
    if (remedy.opens.length === 0)
        return element("p", {}, "It opens no further call.");
    const reasons = new Map((remedy.reasons || []).map(({ call, reason }) => [call, reason]));
    return folded(`It also opens ${plural(remedy.opens.length, "call")}`,
        element("ul.hw-columns", {}, remedy.opens.map(call =>
            element("li", {}, call, reasons.has(call) && element("div.hw-place", {}, reasons.get(call))))),
        (remedy.groups || []).map(({ group, help }) => element("p", {}, `${group}: ${help}`)));
}

function unproven(unproven) {
    if (!unproven)
        return null;
    return folded("Lines that may help", element("p", {}, unproven.why), element("pre.hw-added", {}, unproven.lines.join("\n")));
}

function configuration(configuration) {
    if (!configuration)
        return null;
    return box("info", "The drop-in cannot be written here: the file system is read-only.",
        element("p", {}, "Put these lines into the system's own configuration:"),
        element("pre.hw-command", {}, [configuration.lines].flat().join("\n")));
}
