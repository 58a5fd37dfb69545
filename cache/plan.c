/* plan: the shortest list of API calls that turns base into want.
 *
 * A user's dance of renames, unlinks and creates leaves only its result behind: nodes
 * with two sides. So the cheapest calls can be chosen with the end in view, and nothing
 * has to be replayed, undone or repaired after a crash (DESIGN.md section 3).
 *
 * How it works. Every node has at most one task, its structural step (create, rename,
 * move, delete, rewrite), plus a lone append where no PATCH can carry it. A task is
 * linked to the tasks that must come first:
 *   NAME    what takes a name comes after what frees it, as names are unique over the
 *           account (API.md C13);
 *   FOLDER  what goes into a new folder comes after its creation;
 *   LEAVE   a folder is deleted after everything based in it has left, as the service
 *           would silently un-folder it.
 * A walk in input order that follows links first gives the list.
 *
 * Invariants:
 *   - a task whose links lead to a node that can do nothing now is dead, so that no step
 *     is planned that the service would refuse, nor half of a cycle;
 *   - every cycle has a NAME link to a rename: names alone form no other, FOLDER and
 *     LEAVE only meet through the name of a folder that is created in place of one that
 *     is deleted, and that is an adoption, which comes first. One member of each cycle
 *     is renamed to a temporary name; what waits for its name then waits for that step;
 *   - creates free nothing, so that no step waits for them and batches can be gathered
 *     at the place of their oldest member.
 *
 * Called by push after every reply and whenever something settles.
 */
#include "cache/plan.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#define NONE SIZE_MAX

enum { LONE_APPENDS = 2, FOLDER_NAMES = 4, LINKS_PER_TASK = 4 };

enum mark { MARK_NEW, MARK_OPEN, MARK_DONE };

/* Tasks are the folders, then the notes, of the input: task = index, or folder_count + index. */
struct task {
    enum plan_op op;
    bool live;    /* has a step now */
    bool append;  /* has an append that goes alone */
    bool adopted; /* its base has been given away */
    bool fetch;   /* its base is sought, its body must be fetched first */
    unsigned fields;
    const char *title; /* the name it takes, NULL: none */
    const char *key;   /* the name it takes or seeks, in the form in which names are compared */
    size_t out;        /* first and last link to what comes first */
    size_t out_last;
    size_t in;     /* first link from what comes later */
    size_t cursor; /* the walk: link being followed */
    enum mark mark;
    size_t depth;   /* MARK_OPEN: where on the stack */
    size_t main_at; /* its entries in the order, NONE: none */
    size_t append_at;
    size_t temporary_at;
};

enum link_kind { LINK_NAME, LINK_FOLDER, LINK_LEAVE };

struct link {
    enum link_kind kind;
    size_t from;
    size_t to;
    size_t next_out;
    size_t next_in;
};

/* Who has to do with a name. In this order, so that a name that can't be taken is found out first. */
enum claim_kind { CLAIM_FLIGHT, CLAIM_TAKE, CLAIM_NAME, CLAIM_SHOWN };

struct claim {
    bool folder;
    const char *key;
    enum claim_kind kind;
    size_t task;
};

struct directory {
    uint64_t ino;
    size_t task;
};

enum entry_kind { ENTRY_MAIN, ENTRY_APPEND, ENTRY_TEMPORARY };

/* A step in the making. `after` and `next` are entries, `step` is where it ended up. */
struct entry {
    enum entry_kind kind;
    size_t task;
    size_t after;
    size_t next; /* PLAN_CREATE: next member of its batch */
    bool joined; /* PLAN_CREATE: a member, but not the first */
    size_t step;
};

/* Creates that become ready together: they share `after`. */
struct group {
    size_t appendable; /* how many of them a creating append could make */
    size_t last;       /* the open batch: its last entry, NONE: no open batch */
    size_t count;
    size_t limit;
    uint64_t bytes;
};

struct planner {
    const struct plan_input *input;
    struct task *tasks;
    size_t task_count;
    struct claim *claims;
    size_t claim_count;
    struct directory *directories; /* the folders, by inode */
    char **folded;                 /* owned keys */
    size_t folded_count;
    struct link *links;
    size_t link_count;
    size_t *stack;
    size_t depth;
    struct entry *entries;
    size_t entry_count;
};

static bool is_folder(const struct planner *p, size_t task) {
    return task < p->input->folder_count;
}

static const struct plan_folder *folder_of(const struct planner *p, size_t task) {
    return &p->input->folders[task];
}

static const struct plan_note *note_of(const struct planner *p, size_t task) {
    return &p->input->notes[task - p->input->folder_count];
}

/* --- tasks: what each node would do if it were alone --- */

static void set_task(struct task *task, enum plan_op op, unsigned fields, const char *title) {
    task->live = true;
    task->op = op;
    task->fields = fields;
    task->title = title;
}

static void set_folder_task(struct task *task, const struct plan_folder *folder) {
    if (folder->busy || folder->hold)
        return;
    if (!folder->want_name) {
        if (folder->base_id != 0)
            set_task(task, PLAN_FOLDER_DELETE, 0, NULL);
    } else if (folder->base_id == 0) {
        set_task(task, PLAN_FOLDER_CREATE, 0, folder->want_name);
    } else if (strcmp(folder->want_name, folder->base_shown) != 0) {
        set_task(task, PLAN_FOLDER_RENAME, 0, folder->want_name);
    }
}

static bool wants_title(const struct plan_note *note) {
    return note->want_name && !note->locked && !note->rich && strcmp(note->want_name, note->base_shown) != 0;
}

static bool wants_rewrite(const struct plan_note *note) {
    return note->body == PLAN_BODY_REWRITE && !note->locked && !note->rich;
}

static bool wants_append(const struct plan_note *note) {
    return note->base_id != 0 && note->want_name && note->body == PLAN_BODY_APPEND && !note->rich &&
           !note->busy;
}

/* A title never goes without content (API.md C12), and a pending append rides along for nothing. */
static void set_based_task(struct task *task, const struct plan_note *note) {
    bool title = wants_title(note);
    bool folder = note->want_dir != note->base_dir;
    bool rewrite = wants_rewrite(note);
    bool content = title || rewrite || (wants_append(note) && !note->locked);

    if (rewrite && note->hold_body)
        return;
    if (!title && !folder) {
        if (rewrite)
            set_task(task, PLAN_PATCH, PLAN_CONTENT, NULL);
    } else if (note->hold_name) {
        return;
    } else if (content) {
        unsigned fields =
            PLAN_CONTENT | (title ? (unsigned)PLAN_TITLE : 0) | (folder ? (unsigned)PLAN_FOLDER : 0);
        set_task(task, PLAN_PATCH, fields, title ? note->want_name : NULL);
    } else {
        set_task(task, PLAN_MOVE, 0, NULL);
    }
}

static void set_note_task(struct task *task, const struct plan_note *note) {
    if (note->busy)
        return;
    if (note->want_name && note->base_id != 0) {
        set_based_task(task, note);
    } else if (note->want_name) {
        if (!note->local && !note->hold_name && (!note->hold_body || note->append_creates))
            set_task(task, PLAN_CREATE, 0, note->want_name);
    } else if (note->base_id != 0 && !note->hold_name) {
        set_task(task, PLAN_DELETE, 0, NULL);
    }
}

static void set_tasks(struct planner *p) {
    for (size_t i = 0; i < p->task_count; i++) {
        struct task *task = &p->tasks[i];
        task->out = task->in = NONE;
        task->main_at = task->append_at = task->temporary_at = NONE;
        if (is_folder(p, i))
            set_folder_task(task, folder_of(p, i));
        else
            set_note_task(task, note_of(p, i));
    }
}

/* --- claims: names and who has to do with them --- */

static int compare_claims(const void *left, const void *right) {
    const struct claim *a = left;
    const struct claim *b = right;
    if (a->folder != b->folder)
        return a->folder ? -1 : 1;
    int order = strcmp(a->key, b->key);
    if (order != 0)
        return order;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return a->task < b->task ? -1 : a->task > b->task;
}

/* Folder names are compared without case (API.md, Folders). What isn't UTF-8 stands for itself. */
static char *fold(const char *name) {
    utf8proc_uint8_t *folded = NULL;
    utf8proc_option_t options = UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD;
    if (utf8proc_map((const utf8proc_uint8_t *)name, 0, &folded, options) >= 0)
        return (char *)folded;
    return strdup(name);
}

static int make_key(struct planner *p, size_t task, const char *name, const char **out_key) {
    *out_key = name;
    if (!name || !is_folder(p, task))
        return 0;
    char *folded = fold(name);
    if (!folded)
        return -ENOMEM;
    p->folded[p->folded_count++] = folded;
    *out_key = folded;
    return 0;
}

static int add_claim(struct planner *p, size_t task, enum claim_kind kind, const char *name) {
    struct claim *claim = &p->claims[p->claim_count];
    *claim = (struct claim){.folder = is_folder(p, task), .kind = kind, .task = task};
    if (!name)
        return 0;
    int error = make_key(p, task, name, &claim->key);
    if (!error)
        p->claim_count++;
    return error;
}

/* A node that may take over a base. One that wants to be locked can't: no call sets the lock of a note. */
static bool seeks_base(const struct planner *p, size_t task) {
    if (is_folder(p, task)) {
        const struct plan_folder *folder = folder_of(p, task);
        return folder->base_id == 0 && folder->want_name && !folder->busy;
    }
    const struct plan_note *note = note_of(p, task);
    return note->base_id == 0 && note->want_name && !note->busy && !note->local && !note->want_locked;
}

static bool is_held(const struct planner *p, size_t task) {
    return is_folder(p, task) ? folder_of(p, task)->hold : note_of(p, task)->hold_name;
}

static int claim_names(struct planner *p, size_t task, const char *base, const char *shown,
                       const char *flight) {
    int error = add_claim(p, task, CLAIM_NAME, base);
    if (!error && base && strcmp(base, shown) != 0)
        error = add_claim(p, task, CLAIM_SHOWN, shown);
    return error ? error : add_claim(p, task, CLAIM_FLIGHT, flight);
}

static int claim_for(struct planner *p, size_t i) {
    struct task *task = &p->tasks[i];
    int error;

    if (is_folder(p, i)) {
        const struct plan_folder *folder = folder_of(p, i);
        error = claim_names(p, i, folder->base_id ? folder->base_name : NULL, folder->base_shown,
                            folder->busy ? folder->busy_name : NULL);
        task->key = seeks_base(p, i) ? folder->want_name : task->title;
    } else {
        const struct plan_note *note = note_of(p, i);
        error = claim_names(p, i, note->base_id ? note->base_name : NULL, note->base_shown,
                            note->busy ? note->busy_name : NULL);
        task->key = seeks_base(p, i) ? note->want_name : task->title;
    }
    if (!error && task->title) {
        error = add_claim(p, i, CLAIM_TAKE, task->title);
        task->key = p->claims[p->claim_count - 1].key;
    }
    return error;
}

static int set_claims(struct planner *p) {
    bool needed = false;
    for (size_t i = 0; i < p->task_count && !needed; i++)
        needed = p->tasks[i].title || seeks_base(p, i);
    for (size_t i = 0; i < p->task_count && needed; i++) {
        int error = claim_for(p, i);
        if (error)
            return error;
    }
    qsort(p->claims, p->claim_count, sizeof(*p->claims), compare_claims);
    return 0;
}

static bool claims_name(const struct planner *p, size_t at, bool folder, const char *key) {
    return at < p->claim_count && p->claims[at].folder == folder && strcmp(p->claims[at].key, key) == 0;
}

/* The first claim to the name that TASK takes or seeks; more may follow it. */
static size_t find_claims(const struct planner *p, size_t task) {
    struct claim wanted = {.folder = is_folder(p, task), .key = p->tasks[task].key};
    size_t low = 0;
    size_t high = p->claim_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_claims(&p->claims[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* --- adoption: a new node takes over the base whose name it wants --- */

static bool is_gone(const struct planner *p, size_t task) {
    return is_folder(p, task) ? !folder_of(p, task)->want_name : !note_of(p, task)->want_name;
}

/* Of folders only a deleted one's base: one that is renamed takes along clean notes that the input doesn't
 * show, and each would cost a move. */
static bool yields_base(const struct planner *p, size_t task) {
    if (p->tasks[task].adopted)
        return false;
    if (is_folder(p, task))
        return is_gone(p, task) && !folder_of(p, task)->busy;
    const struct plan_note *note = note_of(p, task);
    if (note->busy || note->locked || note->rich)
        return false;
    return !note->want_name ||
           (strcmp(note->want_name, note->base_shown) != 0 && strcmp(note->want_name, note->base_name) != 0);
}

static unsigned adoption_rank(const struct planner *p, size_t seeker, size_t giver) {
    bool same_dir = !is_folder(p, giver) && note_of(p, giver)->base_dir == note_of(p, seeker)->want_dir;
    return 1 + (same_dir ? 2u : 0u) + (is_gone(p, giver) ? 1u : 0u);
}

static size_t find_giver(const struct planner *p, size_t seeker) {
    bool folder = is_folder(p, seeker);
    const char *key = p->tasks[seeker].key;
    size_t best = NONE;
    unsigned best_rank = 0;
    for (size_t at = find_claims(p, seeker); claims_name(p, at, folder, key); at++) {
        const struct claim *claim = &p->claims[at];
        if ((claim->kind != CLAIM_NAME && claim->kind != CLAIM_SHOWN) || !yields_base(p, claim->task))
            continue;
        unsigned rank = adoption_rank(p, seeker, claim->task);
        if (rank > best_rank) {
            best_rank = rank;
            best = claim->task;
        }
    }
    return best;
}

static uint64_t ino_of(const struct planner *p, size_t task) {
    return is_folder(p, task) ? folder_of(p, task)->ino : note_of(p, task)->ino;
}

static void plan_adoptions(struct planner *p, struct plan *plan) {
    if (p->claim_count == 0)
        return;
    for (size_t i = 0; i < p->task_count; i++) {
        size_t giver = seeks_base(p, i) ? find_giver(p, i) : NONE;
        if (giver == NONE)
            continue;
        bool cold = !is_folder(p, giver) && note_of(p, giver)->cold;
        if (cold || is_held(p, i)) {
            p->tasks[i].live = p->tasks[giver].live = false;
            p->tasks[giver].fetch = cold && !is_held(p, i);
            continue;
        }
        p->tasks[giver].adopted = true;
        plan->steps[plan->count++] = (struct plan_step){
            .op = is_folder(p, i) ? PLAN_ADOPT_FOLDER : PLAN_ADOPT_NOTE,
            .ino = ino_of(p, i),
            .from = ino_of(p, giver),
            .after = NONE,
        };
    }
}

/* --- links: which task waits for which --- */

static void add_link(struct planner *p, enum link_kind kind, size_t from, size_t to) {
    assert(p->link_count < LINKS_PER_TASK * p->task_count);
    struct link *link = &p->links[p->link_count];
    *link = (struct link){kind, from, to, NONE, p->tasks[to].in};
    if (p->tasks[from].out == NONE)
        p->tasks[from].out = p->link_count;
    else
        p->links[p->tasks[from].out_last].next_out = p->link_count;
    p->tasks[from].out_last = p->tasks[to].in = p->link_count++;
}

/* Links FROM to what must come first, or lets it die with it. */
static void wait_for(struct planner *p, enum link_kind kind, size_t from, size_t to) {
    if (p->tasks[to].live)
        add_link(p, kind, from, to);
    else
        p->tasks[from].live = false;
}

/* Whether the holder's own step leaves its name, if it can be done. (Not for one with the same name in another
 * case, but then both take that name, and the second of them dies.) */
static bool frees(const struct planner *p, size_t holder) {
    const struct task *task = &p->tasks[holder];
    bool deletes = task->op == PLAN_DELETE || task->op == PLAN_FOLDER_DELETE;
    return task->live && (deletes || task->title);
}

static bool leaves_shown(const struct planner *p, size_t task) {
    if (is_gone(p, task))
        return true;
    if (is_folder(p, task))
        return strcmp(folder_of(p, task)->want_name, folder_of(p, task)->base_shown) != 0;
    return wants_title(note_of(p, task));
}

/* A shown name that differs from the service's is an alias: its owner may go on with it, but while it is
 * being left the service may still read it as the owner's (API.md C11). */
static void link_names(struct planner *p, size_t i) {
    struct task *task = &p->tasks[i];
    bool folder = is_folder(p, i);
    for (size_t at = find_claims(p, i); task->live && claims_name(p, at, folder, task->key); at++) {
        const struct claim *claim = &p->claims[at];
        bool holds =
            claim->kind == CLAIM_NAME || (claim->kind == CLAIM_SHOWN && leaves_shown(p, claim->task));
        if (claim->task == i)
            continue;
        if (claim->kind == CLAIM_FLIGHT || (claim->kind == CLAIM_TAKE && claim->task < i))
            task->live = false;
        else if (holds && frees(p, claim->task))
            add_link(p, LINK_NAME, i, claim->task);
        else if (holds)
            task->live = false;
    }
}

static int compare_directories(const void *left, const void *right) {
    const struct directory *a = left;
    const struct directory *b = right;
    return a->ino < b->ino ? -1 : a->ino > b->ino;
}

/* The folder with this inode, NONE when it isn't in the input. */
static size_t find_folder(const struct planner *p, uint64_t ino) {
    struct directory wanted = {.ino = ino};
    if (ino == PLAN_ROOT_INO || p->input->folder_count == 0)
        return NONE;
    const struct directory *found = bsearch(&wanted, p->directories, p->input->folder_count,
                                            sizeof(*p->directories), compare_directories);
    return found ? found->task : NONE;
}

static bool changes_folder(const struct task *task) {
    return task->live && (task->op == PLAN_MOVE || (task->op == PLAN_PATCH && (task->fields & PLAN_FOLDER)));
}

static void link_folder(struct planner *p, size_t i) {
    struct task *task = &p->tasks[i];
    size_t folder = find_folder(p, note_of(p, i)->want_dir);
    if (folder == NONE || !(changes_folder(task) || (task->live && task->op == PLAN_CREATE)))
        return;
    if (!folder_of(p, folder)->want_name)
        task->live = false;
    else if (folder_of(p, folder)->base_id == 0)
        wait_for(p, LINK_FOLDER, i, folder);
}

static bool is_deleting(const struct planner *p, size_t folder) {
    return folder != NONE && p->tasks[folder].live && p->tasks[folder].op == PLAN_FOLDER_DELETE;
}

static void link_leaving(struct planner *p, size_t i) {
    const struct plan_note *note = note_of(p, i);
    const struct task *task = &p->tasks[i];
    size_t here = note->base_id != 0 ? find_folder(p, note->base_dir) : NONE;
    if (is_deleting(p, here)) {
        if (changes_folder(task) || (task->live && task->op == PLAN_DELETE))
            add_link(p, LINK_LEAVE, here, i);
        else
            p->tasks[here].live = false;
    }
    size_t coming = note->busy ? find_folder(p, note->busy_dir) : NONE;
    if (is_deleting(p, coming))
        p->tasks[coming].live = false;
}

/* Nothing can be done that waits for what can't be done. */
static void spread_death(struct planner *p) {
    size_t count = 0;
    for (size_t i = 0; i < p->task_count; i++) {
        if (!p->tasks[i].live)
            p->stack[count++] = i;
    }
    while (count > 0) {
        size_t dead = p->stack[--count];
        for (size_t at = p->tasks[dead].in; at != NONE; at = p->links[at].next_in) {
            size_t waiting = p->links[at].from;
            if (p->tasks[waiting].live) {
                p->tasks[waiting].live = false;
                p->stack[count++] = waiting;
            }
        }
    }
}

static void set_links(struct planner *p) {
    for (size_t i = 0; i < p->input->folder_count; i++)
        p->directories[i] = (struct directory){p->input->folders[i].ino, i};
    qsort(p->directories, p->input->folder_count, sizeof(*p->directories), compare_directories);

    for (size_t i = 0; i < p->task_count; i++) {
        if (p->tasks[i].live && p->tasks[i].title)
            link_names(p, i);
    }
    for (size_t i = p->input->folder_count; i < p->task_count; i++) {
        link_folder(p, i);
        link_leaving(p, i);
    }
    spread_death(p);
    for (size_t i = p->input->folder_count; i < p->task_count; i++) {
        const struct task *task = &p->tasks[i];
        p->tasks[i].append = wants_append(note_of(p, i)) && !(task->live && task->op == PLAN_PATCH);
    }
}

/* --- order: what comes first, first --- */

static size_t latest(size_t left, size_t right) {
    if (left == NONE || right == NONE)
        return left == NONE ? right : left;
    return left > right ? left : right;
}

/* The last entry that must be answered before the task's main one. After a temporary name of its own that is
 * always one of those that waited for it. */
static size_t last_before(const struct planner *p, const struct task *task) {
    size_t after = task->append_at;
    for (size_t at = task->out; at != NONE; at = p->links[at].next_out) {
        const struct task *first = &p->tasks[p->links[at].to];
        bool freed = p->links[at].kind == LINK_NAME && first->temporary_at != NONE;
        after = latest(after, freed ? first->temporary_at : first->main_at);
    }
    return after;
}

static size_t add_entry(struct planner *p, enum entry_kind kind, size_t task, size_t after) {
    p->entries[p->entry_count] = (struct entry){.kind = kind, .task = task, .after = after, .next = NONE};
    return p->entry_count++;
}

static void push_task(struct planner *p, size_t i) {
    struct task *task = &p->tasks[i];
    task->mark = MARK_OPEN;
    task->depth = p->depth;
    task->cursor = task->out;
    p->stack[p->depth++] = i;
}

static void add_append(struct planner *p, size_t i) {
    if (p->tasks[i].append && p->tasks[i].append_at == NONE)
        p->tasks[i].append_at = add_entry(p, ENTRY_APPEND, i, NONE);
}

static void finish_task(struct planner *p, size_t i) {
    struct task *task = &p->tasks[i];
    add_append(p, i);
    task->main_at = add_entry(p, ENTRY_MAIN, i, last_before(p, task));
    task->mark = MARK_DONE;
    p->depth--;
}

/* The task's next link to something that hasn't its place yet. */
static size_t open_link(struct planner *p, struct task *task) {
    while (task->cursor != NONE) {
        const struct link *link = &p->links[task->cursor];
        const struct task *first = &p->tasks[link->to];
        if (first->mark != MARK_DONE && !(link->kind == LINK_NAME && first->temporary_at != NONE))
            break;
        task->cursor = link->next_out;
    }
    return task->cursor;
}

/* Bytes that a temporary rename of the task at DEPTH would send, UINT64_MAX when that wouldn't open the cycle
 * that BACK closes. */
static uint64_t temporary_cost(const struct planner *p, size_t depth, size_t back) {
    size_t i = p->stack[depth];
    bool first = p->links[back].to == i;
    const struct link *into = &p->links[first ? back : p->tasks[p->stack[depth - 1]].cursor];
    if (into->kind != LINK_NAME || !p->tasks[i].title)
        return UINT64_MAX;
    return is_folder(p, i) ? 0 : note_of(p, i)->body_bytes;
}

/* BACK leads to a task on the stack. The cheapest member of that cycle goes to a temporary name; what lies
 * above the one that waited for it is walked again later. */
static void break_cycle(struct planner *p, size_t back) {
    size_t bottom = p->tasks[p->links[back].to].depth;
    size_t best = NONE;
    uint64_t best_cost = UINT64_MAX;
    for (size_t depth = bottom; depth < p->depth; depth++) {
        uint64_t cost = temporary_cost(p, depth, back);
        if (cost < best_cost) {
            best_cost = cost;
            best = depth;
        }
    }
    assert(best != NONE);
    size_t chosen = p->stack[best];
    p->tasks[chosen].temporary_at = add_entry(p, ENTRY_TEMPORARY, chosen, NONE);
    while (best > bottom && p->depth > best)
        p->tasks[p->stack[--p->depth]].mark = MARK_NEW;
}

static void walk(struct planner *p, size_t root) {
    if (!p->tasks[root].live || p->tasks[root].mark == MARK_DONE)
        return;
    push_task(p, root);
    while (p->depth > 0) {
        size_t top = p->stack[p->depth - 1];
        size_t link = open_link(p, &p->tasks[top]);
        if (link == NONE)
            finish_task(p, top);
        else if (p->tasks[p->links[link].to].mark == MARK_OPEN)
            break_cycle(p, link);
        else
            push_task(p, p->links[link].to);
    }
}

static void set_order(struct planner *p) {
    size_t folders = p->input->folder_count;
    for (size_t i = 0; i < folders; i++) {
        if (p->tasks[i].op != PLAN_FOLDER_DELETE)
            walk(p, i);
    }
    for (size_t i = folders; i < p->task_count; i++) {
        walk(p, i);
        add_append(p, i);
    }
    for (size_t i = 0; i < folders; i++)
        walk(p, i);
}

/* --- creates: gathered into batches --- */

static bool is_appendable(const struct plan_note *note) {
    return note->append_creates && note->want_dir == PLAN_ROOT_INO && !note->want_locked;
}

static bool is_create(const struct planner *p, const struct entry *entry) {
    return entry->kind == ENTRY_MAIN && p->tasks[entry->task].op == PLAN_CREATE;
}

static struct group *group_of(struct group *groups, const struct entry *entry) {
    return &groups[entry->after == NONE ? 0 : entry->after + 1];
}

static size_t batch_limit(const struct plan_note *note) {
    return note->batch_max < PLAN_BATCH_MAX ? note->batch_max : PLAN_BATCH_MAX;
}

static void join_batch(struct planner *p, struct group *group, size_t at) {
    const struct plan_note *note = note_of(p, p->entries[at].task);
    size_t limit = batch_limit(note);
    if (limit <= 1 || note->want_locked || note->body_bytes > p->input->batch_bytes)
        return;
    if (group->last != NONE) {
        size_t both = limit < group->limit ? limit : group->limit;
        if (group->count < both && note->body_bytes <= p->input->batch_bytes - group->bytes) {
            p->entries[group->last].next = at;
            p->entries[at].joined = true;
            group->last = at;
            group->count++;
            group->limit = both;
            group->bytes += note->body_bytes;
            return;
        }
    }
    group->last = at;
    group->count = 1;
    group->limit = limit;
    group->bytes = note->body_bytes;
}

/* Creating appends come from the larger budget, but a batch is one call. */
static int set_batches(struct planner *p) {
    struct group *groups = calloc(p->entry_count + 1, sizeof(*groups));
    if (!groups)
        return -ENOMEM;
    for (size_t at = 0; at <= p->entry_count; at++)
        groups[at].last = NONE;
    for (size_t at = 0; at < p->entry_count; at++) {
        const struct entry *entry = &p->entries[at];
        if (is_create(p, entry) && is_appendable(note_of(p, entry->task)))
            group_of(groups, entry)->appendable++;
    }
    for (size_t at = 0; at < p->entry_count; at++) {
        struct entry *entry = &p->entries[at];
        if (!is_create(p, entry))
            continue;
        struct group *group = group_of(groups, entry);
        if (is_appendable(note_of(p, entry->task)) && group->appendable <= LONE_APPENDS)
            p->tasks[entry->task].op = PLAN_APPEND_CREATE;
        else
            join_batch(p, group, at);
    }
    free(groups);
    return 0;
}

/* --- the list --- */

static void add_step(struct planner *p, struct plan *plan, struct entry *entry, unsigned batch) {
    const struct task *task = &p->tasks[entry->task];
    struct plan_step *step = &plan->steps[plan->count];
    *step = (struct plan_step){.op = task->op, .ino = ino_of(p, entry->task), .batch = batch};
    step->after = entry->after == NONE ? NONE : p->entries[entry->after].step;
    if (entry->kind == ENTRY_APPEND) {
        step->op = PLAN_APPEND;
    } else if (entry->kind == ENTRY_TEMPORARY) {
        step->temporary = true;
        step->fields = task->op == PLAN_PATCH ? (unsigned)PLAN_TITLE | PLAN_CONTENT : 0;
    } else {
        step->title = task->title;
        step->fields = task->fields;
    }
    entry->step = plan->count++;
}

static void add_steps(struct planner *p, struct plan *plan) {
    unsigned batches = 0;
    for (size_t i = 0; i < p->task_count; i++) {
        if (p->tasks[i].fetch)
            plan->steps[plan->count++] =
                (struct plan_step){.op = PLAN_FETCH, .ino = ino_of(p, i), .after = NONE};
    }
    for (size_t at = 0; at < p->entry_count; at++) {
        if (p->entries[at].joined)
            continue;
        unsigned batch = p->entries[at].next != NONE ? ++batches : 0;
        for (size_t member = at; member != NONE; member = p->entries[member].next)
            add_step(p, plan, &p->entries[member], batch);
    }
}

static int planner_init(struct planner *p, const struct plan_input *input) {
    size_t count = input->folder_count + input->note_count;
    *p = (struct planner){.input = input, .task_count = count};
    p->tasks = calloc(count + 1, sizeof(*p->tasks));
    p->claims = calloc(FOLDER_NAMES * count + 1, sizeof(*p->claims));
    p->directories = calloc(input->folder_count + 1, sizeof(*p->directories));
    p->folded = calloc(FOLDER_NAMES * input->folder_count + 1, sizeof(*p->folded));
    p->links = calloc(LINKS_PER_TASK * count + 1, sizeof(*p->links));
    p->stack = calloc(count + 1, sizeof(*p->stack));
    p->entries = calloc(2 * count + 1, sizeof(*p->entries));
    bool complete =
        p->tasks && p->claims && p->directories && p->folded && p->links && p->stack && p->entries;
    return complete ? 0 : -ENOMEM;
}

static void planner_release(struct planner *p) {
    for (size_t i = 0; i < p->folded_count; i++)
        free(p->folded[i]);
    free(p->tasks);
    free(p->claims);
    free(p->directories);
    free(p->folded);
    free(p->links);
    free(p->stack);
    free(p->entries);
}

static int fill_plan(struct planner *p, struct plan *plan) {
    set_tasks(p);
    int error = set_claims(p);
    if (error)
        return error;
    plan_adoptions(p, plan);
    if (plan->count > 0)
        return 0;
    set_links(p);
    set_order(p);
    error = set_batches(p);
    if (!error)
        add_steps(p, plan);
    return error;
}

int plan_make(const struct plan_input *input, struct plan *out) {
    struct planner planner;
    struct plan plan = {NULL, 0};

    int error = planner_init(&planner, input);
    if (!error) {
        /* A node has at most a main step, one more (an append or a temporary rename) and a fetch. */
        plan.steps = calloc(3 * planner.task_count + 1, sizeof(*plan.steps));
        error = plan.steps ? fill_plan(&planner, &plan) : -ENOMEM;
    }
    planner_release(&planner);
    if (error)
        free(plan.steps);
    else
        *out = plan;
    return error;
}

void plan_release(struct plan *plan) {
    free(plan->steps);
    *plan = (struct plan){NULL, 0};
}

size_t plan_calls(const struct plan *plan) {
    size_t calls = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_step *step = &plan->steps[i];
        bool adoption =
            step->op == PLAN_ADOPT_NOTE || step->op == PLAN_ADOPT_FOLDER || step->op == PLAN_FETCH;
        bool joined = step->batch != 0 && i > 0 && plan->steps[i - 1].batch == step->batch;
        calls += !adoption && !joined;
    }
    return calls;
}
