// The words for a denial, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { describeAccess, describeLine, nameCall, nameDenied } from "../../packaging/cockpit/words.js";

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
