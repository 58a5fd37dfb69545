/* tree: the inodes and dentries in memory.
 *
 * Every node is in by_ino. A node that is shown is also in the children of its directory; a node
 * that is gone (unlinked, replaced) stays in by_ino while the kernel, a handle, or the
 * service's side still needs it. A node with base is found by the service's id, notes and
 * folders apart. The dirty list holds every node whose two sides may differ, in the order
 * in which they became so: that order is the order of sending across notes.
 *
 * Find-or-insert is one critical section: callers hold the cache's lock throughout.
 */
#include "cache/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "cache/names.h"

int tree_set_string(char **field, const char *value) {
    char *copy = NULL;

    if (value) {
        copy = strdup(value);
        if (!copy)
            return -ENOMEM;
    }
    free(*field);
    *field = copy;
    return 0;
}

int tree_init(struct tree *tree) {
    struct store_node rec = {.ino = CACHE_ROOT_INO, .folder = true, .mode = S_IFDIR | 0755};

    memset(tree, 0, sizeof(*tree));
    tree->dirty_end = &tree->dirty;
    tree->root = tree_add(tree, &rec);
    return tree->root ? 0 : -ENOMEM;
}

void tree_release(struct tree *tree) {
    struct node *node, *next;

    /* What is in a folder goes before it. */
    HASH_ITER(hh_ino, tree->by_ino, node, next) {
        if (!node->r.folder)
            tree_remove(tree, node);
    }
    while (tree->folder_list)
        tree_remove(tree, tree->folder_list);
    if (tree->root)
        tree_remove(tree, tree->root);
    memset(tree, 0, sizeof(*tree));
}

struct node *tree_add(struct tree *tree, struct store_node *rec) {
    struct node *node = calloc(1, sizeof(*node));

    if (!node)
        return NULL;
    node->r = *rec;
    memset(rec, 0, sizeof(*rec));
    node->batch_max = SERVICE_BULK_MAX;
    HASH_ADD(hh_ino, tree->by_ino, r.ino, sizeof(node->r.ino), node);
    if (node->r.folder && tree->root) {
        node->folder_next = tree->folder_list;
        tree->folder_list = node;
    }
    if (node->r.id) {
        int64_t id = node->r.id;

        node->r.id = 0;
        tree_set_id(tree, node, id);
    }
    return node;
}

static void forget_folder(struct tree *tree, struct node *node) {
    struct node **at;

    for (at = &tree->folder_list; *at; at = &(*at)->folder_next) {
        if (*at == node) {
            *at = node->folder_next;
            return;
        }
    }
}

void tree_remove(struct tree *tree, struct node *node) {
    if (node->r.folder)
        forget_folder(tree, node);
    tree_unplace(tree, node);
    tree_set_id(tree, node, 0);
    tree_mark_clean(tree, node);
    HASH_DELETE(hh_ino, tree->by_ino, node);
    body_put(node->body);
    body_put(node->draft);
    tail_put(node->tail);
    if (node->frozen) {
        store_frozen_release(node->frozen);
        free(node->frozen);
    }
    store_node_release(&node->r);
    free(node->gone_name);
    free(node);
}

struct node *tree_find(const struct tree *tree, uint64_t ino) {
    struct node *node = NULL;

    HASH_FIND(hh_ino, tree->by_ino, &ino, sizeof(ino), node);
    return node;
}

struct node *tree_find_note(const struct tree *tree, int64_t id) {
    struct node *node = NULL;

    HASH_FIND(hh_id, tree->note_by_id, &id, sizeof(id), node);
    return node;
}

struct node *tree_find_folder(const struct tree *tree, int64_t id) {
    struct node *node = NULL;

    HASH_FIND(hh_id, tree->folder_by_id, &id, sizeof(id), node);
    return node;
}

struct node *tree_child(const struct node *dir, const char *name) {
    struct node *node = NULL;

    HASH_FIND(hh_name, dir->children, name, strlen(name), node);
    return node;
}

struct node *tree_note_named(const struct tree *tree, const char *name, const struct node *self) {
    struct node *found = tree_child(tree->root, name);
    struct node *folder;

    if (found && found != self && !found->r.folder && !found->r.scratch)
        return found;
    /* At most a hundred folders (API.md b): a look into each is cheaper than one more index. */
    for (folder = tree->folder_list; folder; folder = folder->folder_next) {
        found = tree_child(folder, name);
        if (found && found != self && !found->r.scratch)
            return found;
    }
    return NULL;
}

struct node *tree_folder_named(const struct tree *tree, const char *name, const struct node *self) {
    char key[NAMES_KEY_SIZE], other[NAMES_KEY_SIZE];
    struct node *node;

    if (names_fold(name, key) < 0)
        return NULL;
    for (node = tree->folder_list; node; node = node->folder_next) {
        if (node->dir && node != self && names_fold(node->r.name, other) == 0 && strcmp(key, other) == 0)
            return node;
    }
    return NULL;
}

int tree_place(struct tree *tree, struct node *node, struct node *dir, const char *name) {
    char *copy = strdup(name);

    if (!copy)
        return -ENOMEM;
    tree_unplace(tree, node);
    node->moves++;
    node->r.name = copy;
    node->r.dir = dir->r.ino;
    node->dir = dir;
    HASH_ADD_KEYPTR(hh_name, dir->children, node->r.name, strlen(node->r.name), node);
    if (node->r.folder)
        tree->folders++;
    else
        tree->notes++;
    return 0;
}

void tree_unplace(struct tree *tree, struct node *node) {
    if (!node->dir)
        return;
    HASH_DELETE(hh_name, node->dir->children, node);
    if (node->r.folder)
        tree->folders--;
    else
        tree->notes--;
    node->moves++;
    node->dir = NULL;
    node->r.dir = 0;
    free(node->r.name);
    node->r.name = NULL;
}

void tree_set_id(struct tree *tree, struct node *node, int64_t id) {
    struct node **table = node->r.folder ? &tree->folder_by_id : &tree->note_by_id;
    struct node *head = *table;

    if (node->r.id)
        HASH_DELETE(hh_id, head, node);
    node->r.id = id;
    if (id)
        HASH_ADD(hh_id, head, r.id, sizeof(node->r.id), node);
    *table = head;
}

void tree_mark_dirty(struct tree *tree, struct node *node) {
    if (node->dirty_prev)
        return;
    node->dirty_next = NULL;
    node->dirty_prev = tree->dirty_end;
    *tree->dirty_end = node;
    tree->dirty_end = &node->dirty_next;
}

void tree_mark_clean(struct tree *tree, struct node *node) {
    if (!node->dirty_prev)
        return;
    *node->dirty_prev = node->dirty_next;
    if (node->dirty_next)
        node->dirty_next->dirty_prev = node->dirty_prev;
    else
        tree->dirty_end = node->dirty_prev;
    node->dirty_prev = NULL;
    node->dirty_next = NULL;
}
