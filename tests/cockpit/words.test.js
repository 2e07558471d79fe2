// The words for a denial, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { describeAccess, describeFailure, describeLine, describeTimes, introduceCheck, nameCall, nameDenied } from "../../packaging/cockpit/words.js";

const access = { kind: "read-only-path", path: "/etc/x", name: "/etc/x", words: "/etc/x is read-only for the unit" };

test("a denied call is named by its name, a death without a record by its signal", () => {
    assert.deepEqual([nameCall({ call: "socket" }), nameDenied({ call: "socket" })], ["socket(2)", "socket"]);
    assert.deepEqual([nameCall({ call: null }), nameDenied({ call: null })], ["A process died of SIGSYS", "SIGSYS"]);
    assert.equal(describeAccess({ call: "socket" }), null);
});

test("the line of an access speaks of the path, not of the call", () => {
    const denial = { call: "openat", access };
    assert.equal(describeAccess(denial), "/etc/x is read-only for the unit.");
    assert.equal(describeLine({ does: ["makes ", " read-only"] }, nameDenied(denial)), "makes /etc/x read-only");
    assert.equal(describeLine({ why: "it is listed" }, "socket"), "it is listed");
});

test("one denial has no latest one", () => {
    assert.equal(describeTimes(1, "just now"), "once, just now");
    assert.equal(describeTimes(3, "just now"), "3 times, last just now");
});

test("a failure has the words of the terminal", () => {
    assert.equal(describeFailure("a.service", { status: 226, step: "NAMESPACE" }), "a.service failed: exit status 226/NAMESPACE");
    assert.equal(describeFailure("a.service", { status: null, step: null, message: "no such file" }), "a.service failed: no such file");
    const [tap, edit] = ["harden-why tap --restart a.service", "systemctl edit --full a.service && systemctl restart a.service"];
    const [certain, guessed] = [[{ fix: "create /x" }], [{ fix: null }]];
    assert.equal(introduceCheck({ check: tap, possible_causes: guessed }), "To watch a start and confirm the cause:");
    assert.equal(introduceCheck({ check: edit, possible_causes: certain }), "Change the line, then:");
    assert.equal(introduceCheck({ check: edit, possible_causes: guessed }), "Change the line and restart to confirm the cause:");
});
