// What all tests of the page share: a Cockpit without a login, a browser, unit files, and systemctl.

import { execFileSync, spawn } from "node:child_process";
import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";

const { STAGE, HARDEN_WHY } = process.env;
export const RESULTS = process.env.RESULTS || path.join(STAGE, "results");
const PATIENCE = 20000;

let port = Number(process.env.COCKPIT_PORT || 9300);

export function write(unit, text) {
    const file = path.join(STAGE, "units", unit);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
}

// Runs systemctl; a unit that fails to start is no error.
export function systemctl(...args) {
    try {
        return execFileSync("systemctl", ["--user", ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    } catch (error) {
        return String(error.stdout || "").trim();
    }
}

export function hardenWhy(...args) {
    return JSON.parse(execFileSync(path.join(HARDEN_WHY, "harden-why"), ["--json", "--quiet", ...args], { encoding: "utf8" }));
}

// A Cockpit that serves one browser without a login. With a `uid`, its session is that user's.
export class Cockpit {
    static async start({ uid, environment = {} } = {}) {
        const home = path.join(STAGE, uid === undefined ? "home" : `home-${uid}`);
        mkdirSync(home, { recursive: true });
        if (uid !== undefined)
            chownSync(home, uid, uid);
        const here = ++port;
        const env = { ...process.env, HOME: home, PATH: `${HARDEN_WHY}:${process.env.PATH}`, ...environment };
        const args = ["--no-tls", "--address", "127.0.0.1", "--port", String(here), "--local-session=/usr/bin/cockpit-bridge"];
        const command = uid === undefined
            ? ["/usr/lib/cockpit/cockpit-ws", ...args]
            : ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "/usr/lib/cockpit/cockpit-ws", ...args];
        const child = spawn(command[0], command.slice(1), { env, stdio: ["ignore", "ignore", "inherit"] });
        const cockpit = new Cockpit(child, `http://127.0.0.1:${here}`);
        await until(async () => {
            const answer = await fetch(`${cockpit.address}/ping`).catch(() => null);
            return answer && answer.ok;
        }, "Cockpit does not answer");
        return cockpit;
    }

    constructor(child, address) {
        this.child = child;
        this.address = address;
    }

    // Opens the page in a browser of its own, and collects what the browser complains of.
    async open(options = {}) {
        this.browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
        const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
        const page = await context.newPage();
        page.setDefaultTimeout(PATIENCE);
        this.complaints = [];
        page.on("console", message => {
            if (message.type() === "error")
                this.complaints.push(`${message.text()} (${message.location().url})`);
        });
        page.on("pageerror", error => this.complaints.push(String(error)));
        await page.goto(`${this.address}/harden-why`);
        await page.waitForSelector("iframe[name='cockpit1:localhost/harden-why']");
        const frame = await until(() => page.frames().find(one => one.url().includes("/harden-why/index.html")), "no frame of the page");
        await frame.waitForSelector("#view[data-turn]");
        return { page, frame };
    }

    async close() {
        await this.browser?.close();
        this.child.kill();
        await new Promise(resolve => this.child.exitCode === null && this.child.signalCode === null
            ? this.child.once("exit", resolve)
            : resolve());
    }
}

export async function until(look, otherwise) {
    const end = Date.now() + PATIENCE;
    for (;;) {
        const found = await look();
        if (found)
            return found;
        if (Date.now() > end)
            throw new Error(otherwise);
        await new Promise(resolve => setTimeout(resolve, 50));
    }
}

export function axeSource() {
    return readFileSync(path.join(import.meta.dirname, "node_modules/axe-core/axe.min.js"), "utf8");
}
