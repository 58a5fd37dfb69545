/* model_account: notes and folders as the service keeps them, strict as API.md, in memory.
 *
 * Serves model_service, and the tests directly: as the other people who change the account behind the cache's
 * back, and as the truth to compare with. Not thread-safe.
 */
#ifndef JOTSFS_TESTS_MODEL_ACCOUNT_H
#define JOTSFS_TESTS_MODEL_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/service.h"
#include "fake_clock.h"

struct account_note {
    int64_t id;
    char *filename;
    char *body; /* NUL added */
    size_t size;
    int64_t folder_id;
    bool append_only, rich;
    int64_t created_at, updated_at, appended_at; /* seconds: the service's resolution */
};

struct account_folder {
    int64_t id;
    char *name;
    int64_t created_at, updated_at;
};

struct account {
    const struct fake_clock *clock;
    struct account_note **notes;
    size_t note_count;
    struct account_folder *folders;
    size_t folder_count;
    int64_t last_id;
    /* What API.md part (c) leaves open: */
    bool separates_always; /* C1, H1: a newline before every append; else H2: only where one is missing */
    bool chomps;           /* C1: the final newline of an appended text is dropped */
    bool refuses_empty;    /* C14: PATCH of an empty body is refused */
    bool keeps_filename;   /* C12: a new title doesn't change the filename */
    bool keeps_locked;     /* C16: a locked note can't be deleted */
    bool tells_no_size;    /* C5: list items lack byte_size */
    size_t page_max;       /* C7 */
    bool read_only;        /* the token's scope */
};

void account_init(struct account *account, const struct fake_clock *clock);
void account_release(struct account *account);

/* Does what CALL asks; the reply is SERVICE_OK or SERVICE_REFUSED. */
struct service_reply *account_carry_out(struct account *account, const struct service_call *call);
struct service_reply *account_refusal(enum service_error error, const char *message);

/* Somebody else. */
struct account_note *account_add(struct account *account, const char *filename, int64_t folder_id,
                                 const char *body);
int64_t account_add_folder(struct account *account, const char *name);
void account_edit(struct account *account, struct account_note *note, const char *body);
void account_append(struct account *account, struct account_note *note, const char *text);
void account_rename(struct account *account, struct account_note *note, const char *filename);
void account_move(struct account *account, struct account_note *note, int64_t folder_id);
void account_delete(struct account *account, struct account_note *note);
void account_delete_folder(struct account *account, int64_t id);

/* NULL when there is none. */
struct account_note *account_find(const struct account *account, const char *filename);
struct account_note *account_find_id(const struct account *account, int64_t id);
struct account_folder *account_find_folder(const struct account *account, const char *name);

#endif
