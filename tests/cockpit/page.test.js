// The Cockpit page against a real Cockpit, Chromium, systemd, kernel and harden-whyd. `run` prepares the stage.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, beforeEach, describe, test } from "node:test";
import path from "node:path";
import { Cockpit, RESULTS, axeSource, hardenWhy, systemctl, until, write } from "./driver.js";

mkdirSync(RESULTS, { recursive: true });

const MARKUP = "<img src=x onerror=alert(1)><b>&amp;";

const row = unit => `tr[data-unit="${unit}"]`;

// A service that is killed for uname(2), and for nothing else.
function writeVictim(unit, command = "uname") {
    write(unit, `[Service]\nSlice=system.slice\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -ec '${command}'\n` +
        "SystemCallFilter=~uname\n");
    systemctl("daemon-reload");
}

async function openUnit(frame, unit) {
    await frame.click(`${row(unit)} a`);
    await frame.waitForSelector(`h1:text-is("${unit}")`);
}

async function confirm(frame, name) {
    await frame.locator("dialog[open] button", { hasText: name }).first().click();
}

// Waits for the message about a change, closes it and returns its text.
async function closeMessage(frame) {
    const close = frame.locator("dialog[open] button", { hasText: "Close" });
    await close.waitFor();
    const text = await frame.locator("dialog[open]").innerText();
    await close.click();
    return text;
}

describe("with all rights", () => {
    let cockpit, page, frame;

    before(async () => {
        // A unit that stays failed during all tests.
        writeVictim("declined.service");
        systemctl("start", "declined.service");
        cockpit = await Cockpit.start();
        ({ page, frame } = await cockpit.open());
    });
    after(() => cockpit.close());
    beforeEach(showOverview);

    async function showOverview() {
        await frame.evaluate(() => {
            document.querySelectorAll("dialog").forEach(dialog => dialog.close());
            window.cockpit.location.go([]);
        });
        await frame.waitForSelector('h1:text-is("Denials")');
    }

    test("unit dies, its row appears without a reload, the remedy is applied, the unit runs, the row says fixed", async () => {
        await page.evaluate(() => { window.isSamePage = true });
        await frame.evaluate(() => { window.isSamePage = true });
        assert.equal(await frame.locator(row("dies.service")).count(), 0);
        writeVictim("dies.service");
        systemctl("start", "dies.service");
        assert.equal(systemctl("is-active", "dies.service"), "failed");
        await frame.waitForSelector(row("dies.service"));
        assert.match(await frame.locator(row("dies.service")).innerText(), /failing\s+uname\s+1\s+.*dies\.service:6/s);
        const hours = frame.locator(`${row("dies.service")} .hw-row-hours`);
        assert.match(await hours.innerText(), /Denials in the last 24 hours: 1 from/);
        assert.deepEqual([await hours.locator("rect").count(), await hours.locator("rect.hw-bar").count()], [24, 1]);

        await openUnit(frame, "dies.service");
        assert.equal(await frame.locator(".hw-suggested pre").innerText().then(text => text.trim()), "+ [Service]\n+ SystemCallFilter=uname");
        const snippet = frame.locator(".hw-snippet").first();
        assert.equal(await snippet.locator("pre").innerText(), "SystemCallFilter=~uname");
        assert.equal(await snippet.locator("mark").innerText(), "uname");
        assert.match(await frame.locator(".hw-suggested").innerText(), /opens no further call/);
        assert.match(await frame.locator(".hw-suggested").innerText(), /Exposure/);
        assert.match(await frame.locator(".hw-hours").innerText(), /Denials in the last 24 hours: 1 from/);

        await frame.click('button[data-action="Apply and restart"]');
        assert.match(await frame.locator("dialog[open]").innerText(), /\+SystemCallFilter=uname/);
        assert.equal(systemctl("is-active", "dies.service"), "failed", "nothing happens before the answer");
        await confirm(frame, "Apply and restart");
        assert.match(await closeMessage(frame), /systemd confirms its settings.*The unit runs/s);
        assert.equal(systemctl("is-active", "dies.service"), "active");

        await frame.click("nav a");
        await until(async () => /fixed/.test(await frame.locator(row("dies.service")).innerText()), "the row does not say fixed");
        assert.ok(await page.evaluate(() => window.isSamePage) && await frame.evaluate(() => window.isSamePage), "no reload");
    });

    test("question that is not confirmed changes nothing", async () => {
        await frame.waitForSelector(row("declined.service"));
        await openUnit(frame, "declined.service");
        for (const action of ["Apply", "Apply and restart", "Forget", "Revert", "Rehearse", "Log refusals for an hour"]) {
            await frame.click(`button[data-action="${action}"]`);
            await frame.waitForSelector("dialog[open]");
            await page.keyboard.press("Escape");
            await frame.waitForSelector("dialog", { state: "detached" });
        }
        const answer = hardenWhy("declined.service").units[0];
        assert.equal(answer.denials[0].cause.kind, "unit");
        assert.equal(systemctl("is-active", "declined.service"), "failed");
    });

    test("revert brings the denial back, and forget removes the row", async () => {
        await openUnit(frame, "dies.service");
        await frame.click('button[data-action="Revert"]');
        await confirm(frame, "Revert");
        assert.match(await closeMessage(frame), /The drop-in is removed/);
        systemctl("restart", "dies.service");
        assert.equal(systemctl("is-active", "dies.service"), "failed");
        await frame.click('button[data-action="Forget"]');
        await confirm(frame, "Forget");
        assert.match(await closeMessage(frame), /incidents? forgotten/);
        await frame.click("nav a");
        await frame.waitForSelector(row("dies.service"), { state: "detached" });
    });

    test("rehearsal shows calls while it runs, and the unit gets its own settings back", async () => {
        write("plays.service", "[Service]\nSlice=system.slice\nExecStart=/bin/sh -c 'uname; while sleep 1; do :; done'\n" +
            "SystemCallFilter=~uname\n");
        systemctl("daemon-reload");
        systemctl("start", "plays.service");
        await frame.waitForSelector(row("plays.service"));
        await openUnit(frame, "plays.service");
        await frame.click('button[data-action="Rehearse"]');
        assert.match(await frame.locator("dialog[open]").innerText(), /without SystemCallFilter=/);
        await confirm(frame, "Restart and rehearse");
        await frame.waitForSelector('dialog[open] tbody th:has-text("uname")');
        assert.equal(hardenWhy("status").rehearsals.length, 1, "the row came while the rehearsal runs");
        await confirm(frame, "End the rehearsal");
        await frame.locator("dialog[open] button:visible", { hasText: "Close" }).waitFor();
        assert.match(await frame.locator("dialog[open]").innerText(), /its own settings again/);
        await confirm(frame, "Close");
        assert.deepEqual(hardenWhy("status").rehearsals, []);
        assert.equal(systemctl("show", "-P", "SystemCallFilter", "plays.service").startsWith("~"), true);
    });

    test("names, threads and paths full of markup stay text", async () => {
        const program = `/tmp/${MARKUP.replaceAll("/", "")}-${process.pid}`;
        write("markup@.service", `[Service]\nSlice=system.slice\nType=oneshot\nRemainAfterExit=yes\n` +
            `ExecStart=/bin/sh -c 'ln -sf /bin/uname "$$0"; cp /bin/uname "$$0.copy"; "$$0.copy"' '${program}'\nSystemCallFilter=~uname\n`);
        systemctl("daemon-reload");
        const unit = "markup@\\x3cimg\\x20src\\x3dx\\x3e.service";
        systemctl("start", unit);
        await frame.waitForSelector(`tr[data-unit*="markup@"]`);
        const name = await frame.locator(`tr[data-unit*="markup@"]`).first().getAttribute("data-unit");
        await frame.locator(`tr[data-unit*="markup@"] a`).first().click();
        await frame.waitForSelector("h1:has-text('markup@')");
        await frame.locator("summary", { hasText: "Details of all denials" }).click();
        const text = await frame.locator("#view").innerText();
        assert.ok(text.includes("<img src=x onerror=alert(1)><b>&amp;") || text.includes("<img src=x onerror"), text);
        assert.equal(await frame.locator("#view img").count(), 0, "no element came out of a name");
        assert.equal(await frame.locator("#view b").count(), 0);
        assert.ok(name.includes("markup@"));
    });

    test("unit that failed without a denial shows the lines that can be the cause", async () => {
        write("fails.service", "[Service]\nSlice=system.slice\nExecStart=/bin/true\nBindPaths=/nonexistent\n");
        systemctl("daemon-reload");
        systemctl("start", "fails.service");
        assert.equal(systemctl("is-active", "fails.service"), "failed");
        await frame.evaluate(() => window.cockpit.location.go(["system", "fails.service"]));
        await frame.waitForSelector('h1:text-is("fails.service")');
        const text = await frame.locator("#view").innerText();
        assert.match(text, /fails\.service failed: exit status 226\/NAMESPACE.*not proven.*fails\.service:4.*Change the line and restart to confirm the cause:/s);
        assert.equal(await frame.locator(".hw-snippet mark").innerText(), "/nonexistent");
        await check("failure-light-1280");
    });

    test("link to a unit survives a reload of the page", async () => {
        await page.goto(`${cockpit.address}/harden-why#/system/declined.service`);
        await page.reload();
        const loaded = await until(() => page.frames().find(one => one.url().includes("/harden-why/index.html")), "no frame");
        await loaded.waitForSelector('h1:text-is("declined.service")');
        frame = loaded;
        await frame.click("nav a");
        await frame.waitForSelector(row("declined.service"));
    });

    test("keyboard alone reaches a unit and its actions", async () => {
        await frame.locator(`${row("declined.service")} a`).focus();
        await page.keyboard.press("Enter");
        await frame.waitForSelector('h1:text-is("declined.service")');
        assert.equal(await frame.evaluate(() => document.activeElement.localName), "h1", "the focus follows the page");
        for (let presses = 0; presses < 20; presses++) {
            await page.keyboard.press("Tab");
            if (await frame.evaluate(() => document.activeElement.dataset.action === "Apply and restart"))
                break;
        }
        await page.keyboard.press("Enter");
        await frame.waitForSelector("dialog[open]");
        await page.keyboard.press("Escape");
        await frame.waitForSelector("dialog", { state: "detached" });
        await until(() => frame.evaluate(() => document.activeElement.dataset.action === "Apply and restart"), "the focus does not come back");
    });

    for (const theme of ["light", "dark"]) {
        for (const width of [1280, 400]) {
            test(`page of ${width} pixels in ${theme} fits, and axe finds nothing serious`, async () => {
                await page.emulateMedia({ colorScheme: theme });
                await page.setViewportSize({ width, height: 900 });
                await frame.waitForSelector(`${row("declined.service")}`);
                await check(`overview-${theme}-${width}`);
                await openUnit(frame, "declined.service");
                await check(`unit-${theme}-${width}`);
                await frame.click('button[data-action="Apply and restart"]');
                await frame.waitForSelector("dialog[open]");
                await check(`question-${theme}-${width}`);
                await page.keyboard.press("Escape");
            });
        }
    }

    async function check(name) {
        await page.screenshot({ path: path.join(RESULTS, `${name}.png`) });
        const wide = await frame.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(wide <= 0, `${name} is ${wide} pixels too wide`);
        await frame.evaluate(axeSource());
        const found = await frame.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const serious = found.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
        assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(node => node.html)]), [], name);
    }

    test("browser has no complaint, not even about the content security policy", () => {
        assert.deepEqual(cockpit.complaints.filter(text => text.includes("/harden-why/")), []);
    });
});

describe("without rights", () => {
    let cockpit, frame;

    before(async () => {
        cockpit = await Cockpit.start({ uid: 65534 });
        ({ frame } = await cockpit.open());
    });
    after(() => cockpit.close());

    test("person without rights sees no denials of others, and how to see more", async () => {
        await frame.waitForSelector(".hw-info");
        assert.match(await frame.locator("#daemon").innerText(), /You see only the denials of your own units.*administrative access/s);
        assert.equal(await frame.locator(row("declined.service")).count(), 0);
    });
});

describe("without a daemon", () => {
    let cockpit, frame;

    before(async () => {
        // A bus on which nobody answers.
        cockpit = await Cockpit.start({ environment: { DBUS_SYSTEM_BUS_ADDRESS: "unix:path=/nonexistent" } });
        ({ frame } = await cockpit.open());
    });
    after(() => cockpit.close());

    test("machine without the daemon shows how to start it", async () => {
        await frame.waitForSelector(".hw-warning");
        assert.match(await frame.locator("#daemon").innerText(), /harden-whyd does not run.*systemctl enable --now harden-whyd/s);
    });
});

describe("without harden-why", () => {
    let cockpit, frame;

    before(async () => {
        cockpit = await Cockpit.start({ environment: { PATH: "/usr/bin:/bin" } });
        ({ frame } = await cockpit.open());
    });
    after(() => cockpit.close());

    test("machine without the program shows what to install", async () => {
        await frame.waitForSelector(".hw-danger");
        assert.match(await frame.locator("#daemon").innerText(), /not installed.*Install the package harden-why/s);
    });
});
