// The state of harden-whyd, what it cannot see, and what the person may see.

import { run } from "./client.js";
import { box, button, code, element, folded } from "./elements.js";
import { local, plural } from "./times.js";

const MORE_RIGHTS = "To see all denials, turn on administrative access (“Limited access” at the top of the page), or " +
    "become a member of the group adm, systemd-journal or wheel.";

// Shows the state in `place`. Returns whether harden-whyd answers.
export async function showDaemon(place) {
    try {
        const status = await run(["status"]);
        place.replaceChildren(...describe(status).filter(part => part));
        return !status.absent;
    } catch (error) {
        place.replaceChildren(describeFailure(error));
        return false;
    }
}

function describeFailure(error) {
    if (error.problem === "not-found")
        return box("danger", error.message, element("p", {}, "Install the package harden-why."));
    return box("danger", "harden-why failed.", element("p", {}, error.message));
}

function describe(status) {
    return [describeListening(status), describeRights(status), describeRecording(status), describeLimits(status)];
}

function describeListening(status) {
    if (status.absent) {
        return box("warning", "harden-whyd does not run, so denials are not recorded.",
            element("p", {}, "To start it now and at each boot:"),
            element("pre.hw-command", {}, "systemctl enable --now harden-whyd"),
            folded("What harden-why reported", element("p", {}, status.absent)));
    }
    if (!status.listening)
        return box("danger", "harden-whyd receives no records.", element("p", {}, status.not_listening || ""));
    const { records, lost, dropped } = status.counters || {};
    const text = `harden-whyd ${status.since ? `has listened since ${local(status.since)}` : "listens"}: ` +
        `${plural(records || 0, "record")}, ${lost || 0} lost, ${dropped || 0} dropped.`;
    const faults = [
        status.store_error && `The denials cannot be stored: ${status.store_error}`,
        status.journal_error && `Alerts do not reach the journal: ${status.journal_error}`,
    ].filter(Boolean);
    return lost > 0 || faults.length > 0
        ? box("warning", text, faults.map(fault => element("p", {}, fault)))
        : element("p.hw-listening", {}, text);
}

function describeRights(status) {
    if (!status.only_manager)
        return null;
    return box("info", "You see only the denials of your own units.", element("p", {}, MORE_RIGHTS));
}

function describeRecording(status) {
    const recording = (status.recording || []).filter(manager => manager.on);
    const rehearsals = status.rehearsals || [];
    if (recording.length + rehearsals.length === 0)
        return null;
    return box("info", "Temporary changes are in force.", element("ul.hw-notes", {},
        recording.map(({ manager, until }) =>
            element("li", {}, `Refused calls are logged (${manager})${until ? ` until ${local(until)}` : ""}. `,
                manager === "system" && button("link", "Stop logging", stopLogging))),
        rehearsals.map(({ unit, since }) =>
            element("li", {}, `${unit} is being rehearsed${since ? ` since ${local(since)}` : ""}, without its own filters.`))));
}

async function stopLogging(event) {
    const { target } = event;
    target.disabled = true;
    try {
        await run(["log-refusals", "--off"], "system");
        target.closest("li").textContent = "Refused calls are no longer logged.";
    } catch (error) {
        target.closest("li").textContent = `The logging continues: ${error.message}`;
    }
}

function describeLimits(status) {
    const limits = [
        ...(status.filters_off || []).map(off => `No filters are in force (${off.manager}): ${off.reason}`),
        ...(status.limitations || []),
    ];
    const unknown = status.unknown_calls || [];
    if (limits.length + unknown.length === 0)
        return null;
    return folded(`What harden-whyd cannot see here (${limits.length + unknown.length})`,
        element("ul.hw-notes", {},
            limits.map(limit => element("li", {}, limit)),
            unknown.map(({ unit, calls }) => element("li", {}, `${unit} names calls that this system ignores: `,
                code(Array.isArray(calls) ? calls.join(" ") : String(calls))))));
}
