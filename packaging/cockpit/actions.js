// The changes of a unit. Each shows what it will do, and asks first, as the client does on a terminal.

import { managerOption, run } from "./client.js";
import { ask, tell, tellError } from "./dialog.js";
import { announce, box, button, element, notes } from "./elements.js";
import { rehearse } from "./rehearsal.js";
import { local, plural } from "./times.js";
import { nameDenied } from "./words.js";

export function actionBar(answer, context) {
    const canApply = answer.remedies.some(remedy => remedy.default && remedy.path);
    const hasDenials = answer.denials.length > 0;
    const act = (kind, text, action) => button(kind, text, action, { "data-action": text });
    return element("div.hw-actions", { role: "group", "aria-label": "Actions" },
        canApply && act("primary", "Apply and restart", () => applyRemedy(context, { restart: true })),
        canApply && act("secondary", "Apply", () => applyRemedy(context, { restart: false })),
        act("secondary", "Revert", () => revert(context)),
        hasDenials && act("secondary", "Forget", () => forget(context)),
        act("secondary", "Rehearse", () => rehearse(context)),
        act("secondary", "Log refusals for an hour", () => logRefusals(context)));
}

// Runs a change and shows its outcome; `describe` returns the parts of the message.
async function change({ unit, reload, manager }, title, args, describe) {
    try {
        announce(`${title}: in progress`);
        const result = await run(args, manager);
        announce(`${title}: done`);
        tell(title, describe(result));
    } catch (error) {
        announce("");
        tellError(`${title} failed for ${unit}`, error);
    }
    reload();
}

export async function applyRemedy(context, { remedy, restart }) {
    const { unit, manager } = context;
    const chosen = [...managerOption(manager), ...(remedy ? ["--remedy", String(remedy)] : []), unit];
    let plan;
    try {
        plan = await run(["apply", "--dry-run", ...chosen], manager);
    } catch (error) {
        tellError(`No remedy can be applied to ${unit}`, error);
        return;
    }
    if (plan.outcome !== "dry-run") {
        tell(`Nothing is applied to ${unit}`, describeApplied(plan));
        return;
    }
    const confirmed = await ask({
        title: restart ? `Apply the remedy and restart ${unit}?` : `Apply the remedy to ${unit}?`,
        body: [
            element("p", {}, `${plan.remedy ? plan.remedy.title : ""} harden-why writes ${plan.path}:`),
            diff(plan.diff),
            element("p", {}, restart
                ? "systemd reloads its files, and the unit restarts."
                : "systemd reloads its files. Running processes keep the old filter until a restart."),
            notes(plan.notes),
        ],
        confirm: restart ? "Apply and restart" : "Apply",
    });
    if (confirmed) {
        const options = ["--yes", ...(restart ? ["--restart"] : [])];
        await change(context, "Apply", ["apply", ...options, ...chosen], describeApplied);
    }
}

const OUTCOMES = {
    applied: result => box("success", `The drop-in is written${result.confirmed ? ", and systemd confirms its settings" : ""}.`),
    declined: () => box("info", "Nothing was changed."),
    "read-only": () => box("warning", "Nothing was written: the file system is read-only."),
    unchanged: () => box("info", "There is nothing to apply: the settings already permit the calls."),
    reverted: () => box("success", "The drop-in is removed."),
    nothing: () => box("info", "There is no drop-in of harden-why to remove."),
};

function describeApplied(result) {
    const { restarted, configuration, runtime } = result;
    return [
        result.outcome in OUTCOMES && OUTCOMES[result.outcome](result),
        result.path && element("p.hw-place", {}, result.path),
        result.diff && result.diff.length > 0 && diff(result.diff),
        restarted && describeRestart(restarted),
        (result.instances || []).map(instance => element("p", {}, `${instance.unit}: ${instance.active_state}`)),
        configuration && element("pre.hw-command", {}, configuration.lines.join("\n")),
        runtime && element("pre.hw-command", {}, runtime),
        notes(result.notes || []),
    ];
}

function describeRestart({ up, active_state: state, result, denials }) {
    if (up && denials.length === 0)
        return box("success", `The unit runs (${state}).`);
    const calls = denials.map(nameDenied).join(", ");
    const text = up ? `The unit runs (${state})` : `The unit does not run (${state}${result ? `, ${result}` : ""})`;
    return box("warning", calls ? `${text}, and was denied further: ${calls}.` : `${text}.`);
}

// Added, kept and removed lines.
function diff(changed) {
    const kinds = { "+": "hw-line-added", "-": "hw-line-removed" };
    return element("pre.hw-diff", {}, changed.map(line =>
        element(kinds[line[0]] ? `span.${kinds[line[0]]}` : "span", {}, `${line}\n`)));
}

async function revert(context) {
    const confirmed = await ask({
        title: `Revert the remedy of ${context.unit}?`,
        body: [element("p", {}, "harden-why removes the drop-ins that it wrote for this unit, and systemd reloads its files. " +
            "Running processes keep their filter until a restart.")],
        confirm: "Revert",
        kind: "warning",
    });
    if (confirmed) {
        const args = ["revert", "--yes", ...managerOption(context.manager), context.unit];
        await change(context, "Revert", args, describeApplied);
    }
}

async function forget(context) {
    const confirmed = await ask({
        title: `Forget the denials of ${context.unit}?`,
        body: [element("p", {}, "harden-whyd deletes them. The next denial is a new one, with an alert of its own.")],
        confirm: "Forget",
        kind: "warning",
    });
    if (confirmed) {
        await change(context, "Forget", ["forget", ...managerOption(context.manager), context.unit], result => {
            const count = result.forgotten.reduce((sum, { incidents }) => sum + incidents, 0);
            return [box("success", `${plural(count, "incident")} forgotten.`), notes(result.notes)];
        });
    }
}

async function logRefusals(context) {
    const { unit, manager } = context;
    const confirmed = await ask({
        title: `Log the refused calls of ${unit} for an hour?`,
        body: [
            element("p", {}, "The service manager asks the kernel to log calls that a filter refuses with an error. For this the " +
                "manager reloads its files, and the unit restarts."),
            element("p", {}, "Until the end, refused calls of all processes that the manager starts are logged."),
        ],
        confirm: "Log refusals and restart",
    });
    if (confirmed) {
        const args = ["log-refusals", "--yes", "--for", "1h", ...managerOption(manager), unit];
        await change(context, "Log refusals", args, result => [
            box("success", result.until ? `Refused calls are logged until ${local(result.until)}.` : `Logging: ${result.outcome}.`),
            result.units.filter(one => one.error).map(one => box("warning", `${one.unit}: ${one.error}`)),
            notes(result.notes),
        ]);
    }
}
