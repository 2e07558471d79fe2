// One unit: the latest finding with the line that decided it, the remedy, and everything else folded.

/* global cockpit */

import { actionBar } from "./actions.js";
import { managerOption, run } from "./client.js";
import { box, code, element, folded, notes } from "./elements.js";
import { failure } from "./failure.js";
import { hoursChart } from "./hours.js";
import { remedies } from "./remedies.js";
import { snippet } from "./snippet.js";
import { age, local, plural } from "./times.js";
import { describeAccess, describeTimes, nameCall, nameDenied } from "./words.js";

// Returns the page of a unit. `reload` shows it again.
export async function unitPage(manager, unit, reload) {
    const title = element("h1", { tabindex: "-1" }, unit);
    const back = element("nav", { "aria-label": "Breadcrumb" }, element("a", {
        href: "#/",
        onclick: event => {
            event.preventDefault();
            cockpit.location.go([]);
        },
    }, "All units"));
    try {
        const answer = await run([...managerOption(manager), unit]);
        const parts = (answer.units || []).map(one => oneAnswer(one, { manager, unit, reload }));
        return [back, title, parts, notes(answer.notes || [])];
    } catch (error) {
        return [back, title, box("danger", "harden-why does not answer for this unit.", element("p", {}, error.message))];
    }
}

function oneAnswer(answer, context) {
    const [latest, ...older] = answer.denials;
    return [
        latest ? finding(latest) : withoutDenial(answer, answer.unit || context.unit),
        remedies(answer, context),
        actionBar(answer, context),
        notes(answer.notes || [], answer.failure ? ["unit-kills-nothing"] : []),
        silence(answer),
        answer.denials.length > 0 && hoursChart(answer.denials),
        older.length > 0 && folded(`${plural(older.length, "further denial")}`, older.map(finding)),
        latest && folded("Details of all denials", detailsTable(answer.denials)),
    ];
}

function withoutDenial(answer, unit) {
    return answer.failure ? failure(answer.failure, unit) : element("p.hw-lead", {}, `No denials of ${unit} are known.`);
}

// The finding in words, and the lines that decided it.
function finding(denial) {
    const process = `${denial.exe || denial.comm} (pid ${denial.pid})`;
    return element("section.hw-finding", {},
        element("p.hw-lead", {}, element("strong", {}, nameCall(denial)), `: ${process} ${denial.outcome}, `,
            element("time", { datetime: denial.last, title: local(denial.last) }, describeTimes(denial.count, age(denial.last))), "."),
        denial.access && element("p", {}, describeAccess(denial)),
        element("p", {}, `Cause: ${denial.cause.words}.`),
        denial.cause.directives.map(directive => snippet(directive, nameDenied(denial))));
}

function silence(answer) {
    const silent = answer.silent || [];
    if (silent.length === 0)
        return null;
    return box("info", "This unit can also be refused calls without a record.",
        element("p", {}, "These settings refuse calls with an error: ", silent.join(", "),
            ". A rehearsal, or logging for an hour, shows such calls."));
}

function detailsTable(denials) {
    const heads = ["Call", "Process", "Outcome", "Count", "First", "Last", "Found by"];
    const cell = (label, ...content) => element("td", { "data-label": label }, element("span", {}, content));
    return element("table.hw-table", { "aria-label": "Details of all denials" },
        element("thead", {}, element("tr", {}, heads.map(head => element("th", { scope: "col" }, head)))),
        element("tbody", {}, denials.map(denial => element("tr", {},
            element("th", { scope: "row" }, code(denial.call || "SIGSYS"), ` ${denial.arch || ""}`,
                denial.access && element("div.hw-place", {}, denial.access.words)),
            cell("Process", denial.exe || "", element("div.hw-place", {}, `${denial.comm}, pid ${denial.pid}, uid ${denial.uid}`)),
            cell("Outcome", denial.outcome),
            cell("Count", String(denial.count)),
            cell("First", local(denial.first)),
            cell("Last", local(denial.last)),
            cell("Found by", denial.attribution ? `${denial.attribution.words} (${denial.attribution.confidence})` : "")))));
}
