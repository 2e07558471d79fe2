// A unit that failed without a denial: the lines that can be the cause, and the command that makes it certain.

import { element } from "./elements.js";
import { snippet } from "./snippet.js";
import { describeFailure, introduceCheck } from "./words.js";

export function failure(answer, unit) {
    const causes = answer.possible_causes;
    return element("section.hw-finding", {},
        element("p.hw-lead", {}, `${describeFailure(unit, answer)}.`),
        element("p", {}, causes.length === 1 ? "Possible cause, not proven:" : "Possible causes, not proven:"),
        causes.map(possibleCause),
        element("p", {}, introduceCheck(answer)),
        element("pre.hw-command", {}, answer.check));
}

function possibleCause(cause) {
    return [
        snippet(cause),
        cause.fix && element("p", {}, `To fix it, ${cause.fix}.`),
        cause.lines_to_try && [
            element("p", {}, cause.lines_to_try.length === 1
                ? "This line may help, which is not proven:"
                : "These lines together may help, which is not proven:"),
            element("pre.hw-added", {}, cause.lines_to_try.map(line => `+ ${line}`).join("\n")),
        ],
        cause.also_needed && element("p", {}, `To try this, ${cause.also_needed}.`),
    ];
}
