// The page: shows the overview or one unit, and keeps both current while denials happen.

/* global cockpit */

import { follow } from "./client.js";
import { showDaemon } from "./daemon.js";
import { announce, element } from "./elements.js";
import { overview } from "./overview.js";
import { followTheme } from "./theme.js";
import { unitPage } from "./unit.js";
import { nameDenied } from "./words.js";

// The pause between a denial and the new table, so that a storm costs one table for each pause.
const PAUSE = 500;
// The state of a unit changes without a denial, too.
const REFRESH = 10000;

const daemonPlace = document.getElementById("daemon");
const view = document.getElementById("view");
let turn = 0;
let timer = null;

// Shows what the address names. A slower answer for an earlier address is not shown.
async function show({ focus = false } = {}) {
    const mine = ++turn;
    clearTimeout(timer);
    timer = null;
    const [manager, unit] = cockpit.location.path;
    const parts = unit ? await unitPage(manager, unit, () => show()) : [element("h1", { tabindex: "-1" }, "Denials"), await overview()];
    if (mine !== turn)
        return;
    // A person who reads a folded text, or is about to press a button, is not disturbed.
    const open = new Set([...view.querySelectorAll("details[open] > summary")].map(summary => summary.textContent));
    const focused = view.contains(document.activeElement) ? describeFocus(document.activeElement) : null;
    view.replaceChildren(element("div", {}, parts));
    view.querySelectorAll("details > summary").forEach(summary => {
        summary.parentElement.open = open.has(summary.textContent);
    });
    if (focus)
        view.querySelector("h1").focus();
    else if (focused)
        [...view.querySelectorAll("a, button, summary, h1")].find(node => describeFocus(node) === focused)?.focus();
    view.setAttribute("data-turn", String(mine));
}

function describeFocus(node) {
    return `${node.localName} ${node.textContent}`;
}

function soon() {
    if (timer === null)
        timer = setTimeout(() => show(), PAUSE);
}

function showNews(news) {
    if (news.new) {
        const [denial] = news.denials;
        announce(`${news.unit || "A process of an unknown unit"}: ${nameDenied(denial)} denied`);
    }
    soon();
}

followTheme();
cockpit.addEventListener("locationchanged", () => show({ focus: true }));
// More or fewer rights change what the person may see.
cockpit.permission({ admin: true }).addEventListener("changed", () => {
    showDaemon(daemonPlace);
    show();
});
showDaemon(daemonPlace);
show();
let wasConnected = false;
follow([], showNews, isConnected => {
    if (isConnected !== wasConnected) {
        wasConnected = isConnected;
        showDaemon(daemonPlace);
        soon();
    }
});
setInterval(() => {
    if (!document.hidden)
        soon();
}, REFRESH);
