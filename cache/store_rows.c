/* store_rows: how nodes and frozen requests lie in the database.
 *
 * A table of columns per record is the only place that knows both the C fields and the SQL: the
 * CREATE, the upsert and the SELECT are made from it, and one loop binds or reads a row.
 * Rows keep the number (seq) they got when they were first put, so that they are read in the order they were
 * made. Names are BLOBs: they may hold any bytes. The tables are STRICT, and what doesn't fit its field when
 * it is read is corruption (-EUCLEAN), never cut to size.
 *
 * The first column is the inode, the key. A change of the tables here is a new layout: STORE_VERSION in
 * store_open.c.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cache/store_internal.h"

enum kind {
    KIND_WIDE,     /* int64_t, uint64_t (as the same 64 bits) */
    KIND_SIGNED,   /* int */
    KIND_UNSIGNED, /* unsigned, uint32_t, enums */
    KIND_FLAG,     /* bool */
    KIND_BYTES,    /* char *, any bytes but NUL, or NULL */
    KIND_TEXT,     /* char *, UTF-8, or NULL */
};

static const char *const kind_types[] = {
    [KIND_WIDE] = "INTEGER NOT NULL",
    [KIND_SIGNED] = "INTEGER NOT NULL",
    [KIND_UNSIGNED] = "INTEGER NOT NULL",
    [KIND_FLAG] = "INTEGER NOT NULL",
    [KIND_BYTES] = "BLOB",
    [KIND_TEXT] = "TEXT",
};

struct column {
    const char *name;
    enum kind kind;
    size_t offset;
};

struct table {
    const char *name;
    const struct column *columns;
    int count;
};

#define NODE(kind, field)                                                                                    \
    { #field, KIND_##kind, offsetof(struct store_node, field) }

static const struct column node_columns[] = {
    NODE(WIDE, ino),
    NODE(FLAG, folder),
    NODE(WIDE, dir),
    NODE(BYTES, name),
    NODE(UNSIGNED, mode),
    NODE(UNSIGNED, uid),
    NODE(UNSIGNED, gid),
    NODE(WIDE, atime_ns),
    NODE(WIDE, mtime_ns),
    NODE(WIDE, ctime_ns),
    NODE(FLAG, scratch),
    NODE(FLAG, want_locked),
    NODE(FLAG, append_born),
    NODE(UNSIGNED, content),
    NODE(WIDE, tail_epoch),
    NODE(WIDE, tail_from),
    NODE(WIDE, draft),
    NODE(WIDE, ancestor),
    NODE(WIDE, ancestor_size),
    NODE(WIDE, ancestor_updated_at),
    NODE(WIDE, ancestor_bytes),
    NODE(WIDE, changed_at),
    NODE(WIDE, gone_at),
    NODE(SIGNED, error),
    NODE(TEXT, error_code),
    NODE(TEXT, error_message),
    NODE(WIDE, id),
    NODE(BYTES, base_name),
    NODE(BYTES, base_shown),
    NODE(WIDE, base_dir),
    NODE(WIDE, base_folder),
    NODE(WIDE, updated_at),
    NODE(WIDE, created_at),
    NODE(WIDE, appended_at),
    NODE(WIDE, base_size),
    NODE(FLAG, alias),
    NODE(FLAG, locked),
    NODE(FLAG, rich),
    NODE(FLAG, encrypted),
    NODE(FLAG, exact),
    NODE(FLAG, settled),
    NODE(FLAG, inexact),
    NODE(SIGNED, end),
    NODE(WIDE, body),
    NODE(WIDE, body_size),
    NODE(UNSIGNED, body_crc),
    NODE(WIDE, used_at),
};

#define FROZEN(kind, field)                                                                                  \
    { #field, KIND_##kind, offsetof(struct store_frozen, field) }

static const struct column frozen_columns[] = {
    FROZEN(WIDE, ino),          FROZEN(SIGNED, op),          FROZEN(TEXT, key),
    FROZEN(UNSIGNED, position), FROZEN(WIDE, note_id),       FROZEN(BYTES, title),
    FROZEN(SIGNED, place),      FROZEN(WIDE, folder_id),     FROZEN(UNSIGNED, fields),
    FROZEN(FLAG, append_only),  FROZEN(WIDE, body),          FROZEN(WIDE, text_size),
    FROZEN(FLAG, exact),        FROZEN(WIDE, tail_epoch),    FROZEN(WIDE, tail_from),
    FROZEN(WIDE, tail_to),      FROZEN(WIDE, draft_change),  FROZEN(WIDE, base_updated_at),
    FROZEN(WIDE, base_size),    FROZEN(WIDE, first_sent_ms), FROZEN(WIDE, last_sent_ms),
};

static const struct table nodes = {"node", node_columns, sizeof node_columns / sizeof *node_columns};
static const struct table frozens = {"frozen", frozen_columns,
                                     sizeof frozen_columns / sizeof *frozen_columns};

/* --- SQL from the tables --- */

static char *create_sql(const struct table *table) {
    sqlite3_str *sql = sqlite3_str_new(NULL);

    sqlite3_str_appendf(sql, "CREATE TABLE %s(seq INTEGER PRIMARY KEY", table->name);
    for (int i = 0; i < table->count; i++)
        sqlite3_str_appendf(sql, ", %s %s%s", table->columns[i].name, kind_types[table->columns[i].kind],
                            i == 0 ? " UNIQUE" : "");
    sqlite3_str_appendall(sql, ") STRICT");
    return sqlite3_str_finish(sql);
}

static void append_names(sqlite3_str *sql, const struct table *table) {
    for (int i = 0; i < table->count; i++)
        sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", table->columns[i].name);
}

static char *put_sql(const struct table *table) {
    sqlite3_str *sql = sqlite3_str_new(NULL);

    sqlite3_str_appendf(sql, "INSERT INTO %s(", table->name);
    append_names(sql, table);
    sqlite3_str_appendall(sql, ") VALUES(");
    for (int i = 0; i < table->count; i++)
        sqlite3_str_appendf(sql, "%s?%d", i ? ", " : "", i + 1);
    sqlite3_str_appendf(sql, ") ON CONFLICT(%s) DO UPDATE SET ", table->columns[0].name);
    for (int i = 1; i < table->count; i++)
        sqlite3_str_appendf(sql, "%s%s=excluded.%s", i > 1 ? ", " : "", table->columns[i].name,
                            table->columns[i].name);
    return sqlite3_str_finish(sql);
}

static char *erase_sql(const struct table *table) {
    return sqlite3_mprintf("DELETE FROM %s WHERE %s=?1", table->name, table->columns[0].name);
}

static char *each_sql(const struct table *table) {
    sqlite3_str *sql = sqlite3_str_new(NULL);

    sqlite3_str_appendall(sql, "SELECT ");
    append_names(sql, table);
    sqlite3_str_appendf(sql, " FROM %s ORDER BY seq", table->name);
    return sqlite3_str_finish(sql);
}

char *store_layout(size_t index, const char **out_name) {
    static const char *const names[] = {"meta", "node", "frozen"};
    static const struct table *const tables[] = {NULL, &nodes, &frozens};

    if (index >= sizeof names / sizeof *names)
        return NULL;
    *out_name = names[index];
    if (tables[index])
        return create_sql(tables[index]);
    return sqlite3_mprintf(
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID");
}

/* Prepares SQL, which it frees. */
static int prepare(struct store *store, enum store_statement which, char *sql) {
    if (!sql)
        return -ENOMEM;
    int result = sqlite3_prepare_v3(store->writer, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                    &store->statements[which], NULL);
    sqlite3_free(sql);
    return store_error(store->writer, result);
}

int store_prepare(struct store *store) {
    static const char *const fixed[] = {
        [STORE_BEGIN] = "BEGIN IMMEDIATE",
        [STORE_COMMIT] = "COMMIT",
        [STORE_GET_META] = "SELECT value FROM meta WHERE key=?1",
        [STORE_PUT_META] = "REPLACE INTO meta(key, value) VALUES(?1, ?2)",
        [STORE_ERASE_META] = "DELETE FROM meta WHERE key=?1",
    };
    int rc = 0;

    for (enum store_statement i = 0; rc == 0 && i < sizeof fixed / sizeof *fixed; i++)
        rc = prepare(store, i, sqlite3_mprintf("%s", fixed[i]));
    rc = rc ? rc : prepare(store, STORE_PUT_NODE, put_sql(&nodes));
    rc = rc ? rc : prepare(store, STORE_DELETE_NODE, erase_sql(&nodes));
    rc = rc ? rc : prepare(store, STORE_EACH_NODE, each_sql(&nodes));
    rc = rc ? rc : prepare(store, STORE_PUT_FROZEN, put_sql(&frozens));
    rc = rc ? rc : prepare(store, STORE_ERASE_FROZEN, erase_sql(&frozens));
    rc = rc ? rc : prepare(store, STORE_EACH_FROZEN, each_sql(&frozens));
    return rc;
}

/* --- rows --- */

static int bind_string(sqlite3_stmt *statement, int index, enum kind kind, const char *string) {
    if (!string)
        return sqlite3_bind_null(statement, index);
    if (kind == KIND_TEXT)
        return sqlite3_bind_text(statement, index, string, -1, SQLITE_STATIC);
    return sqlite3_bind_blob64(statement, index, string, strlen(string), SQLITE_STATIC);
}

static int bind_field(sqlite3_stmt *statement, int index, const struct column *column, const void *row) {
    const char *field = (const char *)row + column->offset;
    int64_t wide = 0;
    int number = 0;
    unsigned natural = 0;
    char *string = NULL;

    switch (column->kind) {
    case KIND_WIDE:
        memcpy(&wide, field, sizeof wide);
        break;
    case KIND_SIGNED:
        memcpy(&number, field, sizeof number);
        wide = number;
        break;
    case KIND_UNSIGNED:
        memcpy(&natural, field, sizeof natural);
        wide = natural;
        break;
    case KIND_FLAG:
        wide = *(const bool *)field;
        break;
    case KIND_BYTES:
    case KIND_TEXT:
        memcpy(&string, field, sizeof string);
        return bind_string(statement, index, column->kind, string);
    }
    return sqlite3_bind_int64(statement, index, wide);
}

static int put_row(struct store *store, enum store_statement which, const struct table *table,
                   const void *row) {
    int bound = SQLITE_OK;

    assert(store->depth > 0);
    for (int i = 0; bound == SQLITE_OK && i < table->count; i++)
        bound = bind_field(store->statements[which], i + 1, &table->columns[i], row);
    return store_run(store, which, bound);
}

static int erase_row(struct store *store, enum store_statement which, uint64_t ino) {
    assert(store->depth > 0);
    return store_run(store, which, sqlite3_bind_int64(store->statements[which], 1, (int64_t)ino));
}

static int read_string(sqlite3_stmt *statement, int index, char **out) {
    if (sqlite3_column_type(statement, index) == SQLITE_NULL)
        return 0;
    const void *bytes = sqlite3_column_blob(statement, index);
    size_t size = (size_t)sqlite3_column_bytes(statement, index);
    if (size > 0 && !bytes)
        return -ENOMEM;
    if (size > 0 && memchr(bytes, 0, size))
        return -EUCLEAN;
    char *copy = malloc(size + 1);
    if (!copy)
        return -ENOMEM;
    if (size > 0)
        memcpy(copy, bytes, size);
    copy[size] = 0;
    *out = copy;
    return 0;
}

static int read_field(sqlite3_stmt *statement, int index, const struct column *column, void *row) {
    char *field = (char *)row + column->offset;
    int64_t wide = sqlite3_column_int64(statement, index);
    int number = (int)wide;
    unsigned natural = (unsigned)wide;

    switch (column->kind) {
    case KIND_WIDE:
        memcpy(field, &wide, sizeof wide);
        return 0;
    case KIND_SIGNED:
        memcpy(field, &number, sizeof number);
        return number == wide ? 0 : -EUCLEAN;
    case KIND_UNSIGNED:
        memcpy(field, &natural, sizeof natural);
        return natural == wide ? 0 : -EUCLEAN;
    case KIND_FLAG:
        *(bool *)field = wide != 0;
        return wide == (wide != 0) ? 0 : -EUCLEAN;
    case KIND_BYTES:
    case KIND_TEXT:
        return read_string(statement, index, (char **)(void *)field);
    }
    return -EUCLEAN;
}

/* Makes ROW (zeroed) of the statement's current row. On failure it may hold some strings. */
static int read_row(sqlite3_stmt *statement, const struct table *table, void *row) {
    int rc = 0;

    for (int i = 0; rc == 0 && i < table->count; i++)
        rc = read_field(statement, i, &table->columns[i], row);
    return rc;
}

static void end_each(struct store *store, enum store_statement which) {
    sqlite3_reset(store->statements[which]);
    store_leave(store);
}

/* Steps to the next row: 1, or 0 at the end. */
static int next_row(struct store *store, enum store_statement which) {
    int result = sqlite3_step(store->statements[which]);

    return result == SQLITE_ROW ? 1 : store_error(store->writer, result);
}

static void release_row(const struct table *table, void *row) {
    for (int i = 0; i < table->count; i++) {
        char *string = NULL;
        if (table->columns[i].kind != KIND_BYTES && table->columns[i].kind != KIND_TEXT)
            continue;
        memcpy(&string, (char *)row + table->columns[i].offset, sizeof string);
        free(string);
        string = NULL;
        memcpy((char *)row + table->columns[i].offset, &string, sizeof string);
    }
}

/* --- the two kinds of rows --- */

int store_put_node(struct store *store, const struct store_node *node) {
    return put_row(store, STORE_PUT_NODE, &nodes, node);
}

int store_delete_node(struct store *store, uint64_t ino) {
    return erase_row(store, STORE_DELETE_NODE, ino);
}

int store_each_node(struct store *store, int (*each)(struct store_node *node, void *arg), void *arg) {
    int rc;

    store_enter(store);
    while ((rc = next_row(store, STORE_EACH_NODE)) == 1) {
        struct store_node node = {0};
        rc = read_row(store->statements[STORE_EACH_NODE], &nodes, &node);
        if (rc == 0 && node.content > STORE_CONTENT_DRAFT)
            rc = -EUCLEAN;
        if (rc < 0)
            store_node_release(&node);
        else
            rc = each(&node, arg);
        if (rc != 0)
            break;
    }
    end_each(store, STORE_EACH_NODE);
    return rc;
}

void store_node_release(struct store_node *node) {
    release_row(&nodes, node);
}

int store_put_frozen(struct store *store, const struct store_frozen *frozen) {
    return put_row(store, STORE_PUT_FROZEN, &frozens, frozen);
}

int store_erase_frozen(struct store *store, uint64_t ino) {
    return erase_row(store, STORE_ERASE_FROZEN, ino);
}

int store_each_frozen(struct store *store, int (*each)(struct store_frozen *frozen, void *arg), void *arg) {
    int rc;

    store_enter(store);
    while ((rc = next_row(store, STORE_EACH_FROZEN)) == 1) {
        struct store_frozen frozen = {0};
        rc = read_row(store->statements[STORE_EACH_FROZEN], &frozens, &frozen);
        if (rc < 0)
            store_frozen_release(&frozen);
        else
            rc = each(&frozen, arg);
        if (rc != 0)
            break;
    }
    end_each(store, STORE_EACH_FROZEN);
    return rc;
}

void store_frozen_release(struct store_frozen *frozen) {
    release_row(&frozens, frozen);
}
