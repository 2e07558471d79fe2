// The target that covers the current thread.
#pragma once
#include "tap_layout.h"

INLINE void count_loss(u32 what)
{
    u64 *count = map_lookup(&shared, &what);
    if (count)
        __sync_fetch_and_add(count, 1);
}

// Returns the index of the target that covers the current process; -1 if none does, or if the tap does not count.
SHARED_FUNCTION int find_target(u32 process)
{
    u32 index = LIVE;
    u64 *live = map_lookup(&shared, &index);
    if (!live || !*live || process == watcher)
        return -1;
#pragma unroll
    for (u32 target = 0; target < MOST_TARGETS; target++) {
        if (target >= cgroup_count)
            break;
        index = target;
        struct watched_cgroup *cgroup = map_lookup(&cgroups, &index);
        if (cgroup && cgroup->id && current_ancestor_cgroup(cgroup->level) == cgroup->id)
            return target;
    }
    if (has_processes) {
        u64 *target = map_lookup(&processes, &process);
        if (target)
            return *target;
    }
    return -1;
}
