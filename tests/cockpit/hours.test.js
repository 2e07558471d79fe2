// The denials by hour, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { countByHour } from "../../packaging/cockpit/hours.js";

const NOW = Date.parse("2026-01-02T12:30:00Z");

function counts(denials) {
    const { hours, between, before } = countByHour(denials, NOW);
    const seen = hours.filter(hour => hour.count > 0).map(hour => [new Date(hour.start).toISOString().slice(11, 16), hour.count]);
    return { seen, between, before };
}

test("denials of one hour fall into its bar", () => {
    const denial = { first: "2026-01-02T09:05:00Z", last: "2026-01-02T09:55:00Z", count: 7 };
    assert.deepEqual(counts([denial]), { seen: [["09:00", 7]], between: 0, before: 0 });
});

test("denials between two hours are not given an hour", () => {
    const denial = { first: "2026-01-02T09:05:00Z", last: "2026-01-02T12:10:00Z", count: 9 };
    assert.deepEqual(counts([denial]), { seen: [["09:00", 1], ["12:00", 1]], between: 7, before: 0 });
});

test("denials of the day before count as before", () => {
    const denials = [
        { first: "2026-01-01T10:00:00Z", last: "2026-01-01T10:00:01Z", count: 3 },
        { first: "2026-01-01T13:00:00Z", last: "2026-01-01T13:00:01Z", count: 2 },
        { first: "unknown", last: "unknown", count: 5 },
    ];
    assert.deepEqual(counts(denials), { seen: [["13:00", 2]], between: 0, before: 3 });
});
