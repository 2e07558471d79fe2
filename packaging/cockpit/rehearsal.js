// A rehearsal: the unit runs once without its filters, and the page shows the calls as they come.

import { follow, managerOption, run, start } from "./client.js";
import { ask, tellError } from "./dialog.js";
import { announce, box, button, code, element, folded, notes } from "./elements.js";
import { plural } from "./times.js";

const LENGTHS = [["1min", "1 minute"], ["5min", "5 minutes"], ["15min", "15 minutes"], ["1h", "1 hour"]];

// How often the page asks whether the unit has its own settings again.
const PAUSE = 1000;
const MOST_QUESTIONS = 300;

export async function rehearse(context) {
    const { unit, manager } = context;
    const chosen = [...managerOption(manager), unit];
    let plan;
    try {
        plan = await run(["rehearse", "--dry-run", ...chosen], manager);
    } catch (error) {
        tellError(`${unit} cannot be rehearsed`, error);
        return;
    }
    const length = element("select.hw-select", { id: "hw-rehearsal-length" },
        LENGTHS.map(([value, text]) => element("option", { value, selected: value === "5min" }, text)));
    const confirmed = await ask({
        title: `Rehearse ${unit}?`,
        body: describePlan(plan, length),
        confirm: "Restart and rehearse",
        kind: "danger",
    });
    if (confirmed)
        await watch(context, ["rehearse", "--yes", "--for", length.value, ...chosen]);
}

function describePlan({ rehearsal, notes: remarks }, length) {
    return [
        box("warning", "During the rehearsal the unit is less protected. Its calls take effect."),
        element("p", {}, `The unit restarts without ${rehearsal.lifted.map(name => `${name}=`).join(", ")}. At the end it restarts with them.`),
        element("p", {}, element("label", { for: "hw-rehearsal-length" }, "Length: "), length),
        rehearsal.drop_in && folded("The temporary drop-in", element("pre.hw-command", {}, rehearsal.drop_in)),
        notes(remarks),
    ];
}

// Shows the calls while the rehearsal runs, in a dialog that ends it.
async function watch({ unit, manager, reload }, args) {
    const calls = new Map();
    const body = element("tbody", {});
    const state = element("p", { role: "status" }, "The unit restarts without its filters …");
    const command = start(args, manager);
    let isStopped = false;
    const stop = () => {
        isStopped = true;
        end.disabled = true;
        state.textContent = "The unit stops and gets its own settings back …";
        command.end();
    };
    const end = button("danger", "End the rehearsal", stop);
    const close = button("primary", "Close", () => dialog.close(), { hidden: true });
    const result = element("div", {});
    const dialog = element("dialog.hw-dialog", { "aria-labelledby": "hw-rehearsal" },
        element("h2", { id: "hw-rehearsal" }, `Rehearsal of ${unit}`),
        state,
        element("table.hw-table", { "aria-label": "Calls during the rehearsal" },
            element("thead", {}, element("tr", {}, ["Call", "Process", "Count"].map(head => element("th", { scope: "col" }, head)))),
            body),
        result,
        element("div.hw-actions", {}, end, close));
    // Escape must not hide a unit without its filters.
    dialog.addEventListener("cancel", event => { if (close.hidden) event.preventDefault() });
    dialog.addEventListener("close", () => { dialog.remove(); reload() });
    document.body.append(dialog);
    dialog.showModal();

    const stopFollowing = follow([unit], news => showCall(calls, body, state, news), () => {});
    try {
        const answer = await command.answer;
        result.replaceChildren(...describeEnd(answer));
        state.textContent = "The rehearsal has ended.";
    } catch (error) {
        if (isStopped) {
            await untilRestored(unit);
            state.textContent = "The rehearsal was ended, and the unit has its own settings again. Its page shows the remedy.";
        } else {
            state.textContent = "The rehearsal failed.";
            result.replaceChildren(box("danger", error.message));
        }
    }
    stopFollowing();
    announce(state.textContent);
    end.hidden = true;
    close.hidden = false;
    close.focus();
}

function showCall(calls, body, state, news) {
    const denial = news.new ? news.denials[0] : null;
    if (denial && denial.source === "rehearsal") {
        const count = element("td", { "data-label": "Count" }, element("span", {}, String(denial.count)));
        calls.set(news.id, count);
        body.append(element("tr", {},
            element("th", { scope: "row" }, code(denial.call)),
            element("td", { "data-label": "Process" }, element("span", {}, denial.exe || denial.comm)),
            count));
        state.textContent = `The unit runs without its filters: ${plural(calls.size, "kind")} of denied calls so far.`;
    } else if (!news.new && calls.has(news.id)) {
        calls.get(news.id).firstChild.textContent = String(news.count);
    }
}

function describeEnd({ rehearsal, notes: remarks }) {
    const calls = rehearsal.calls.map(({ call, count }) => `${call} (${count})`);
    return [
        calls.length > 0
            ? box("success", `Its settings would deny ${plural(calls.length, "call")}.`, element("p", {}, calls.join(", ")))
            : box("info", "The unit made no call that its settings deny."),
        rehearsal.state && element("p", {}, `The unit has its own settings again: ${rehearsal.then}, ${rehearsal.state}.`),
        (rehearsal.survivors || []).length > 0 && box("warning", "These processes outlived the rehearsal without filters.",
            element("p", {}, rehearsal.survivors.map(({ pid, command }) => `${command} (${pid})`).join(", "))),
        notes(remarks || []),
    ].filter(part => part);
}

// The output of a command that was ended early is lost, so the page asks harden-why for the unit's state.
async function untilRestored(unit) {
    for (let question = 0; question < MOST_QUESTIONS; question++) {
        const status = await run(["status"]).catch(() => null);
        if (status && !status.rehearsals.some(rehearsal => rehearsal.unit === unit))
            return;
        await new Promise(resolve => setTimeout(resolve, PAUSE));
    }
}
