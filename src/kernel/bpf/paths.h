// The paths of files, as the names in them.
#pragma once
#include "kernel.h"

// A path has at most this many names and mounts, and room for its names; each name has a limit. Longer paths are cut.
#define MOST_NAMES 32
#define NAMES 256
#define LONGEST_NAME 128

struct path_names {
    // The names, from the file's own to the topmost, each with a zero byte; and whether these are all.
    u32 length;
    u32 is_whole;
    char names[NAMES + LONGEST_NAME];
};

// Reads the names of a path, across mounts, up to the root of its mount namespace.
INLINE void read_path(struct path_names *to, const struct path *path)
{
    struct dentry *dentry = 0, *root = 0;
    struct vfsmount *mount = 0;
    u32 at = 0;
    READ(dentry, path->dentry);
    READ(mount, path->mnt);
    for (int level = 0; level < MOST_NAMES; level++) {
        READ(root, mount->mnt_root);
        if (dentry == root) {
            struct mount *parent = 0, *own = 0;
            own = (void *)((char *)mount - __builtin_preserve_field_info(own->mnt, FIELD_OFFSET));
            READ(parent, own->mnt_parent);
            if (parent == own) {
                to->is_whole = 1;
                break;
            }
            READ(dentry, own->mnt_mountpoint);
            mount = &parent->mnt;
            continue;
        }
        const char *name = 0;
        READ(name, dentry->d_name.name);
        if (at >= NAMES)
            break;
        long length = read_kernel_string(to->names + (at & (NAMES - 1)), LONGEST_NAME, name);
        if (length <= 1 || length >= LONGEST_NAME)
            break;
        at += length;
        READ(dentry, dentry->d_parent);
    }
    to->length = at;
}
