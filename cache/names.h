/* names: file names of the mount against names of the service, in both directions. Pure.
 *
 * Shown names are NFC, at most 255 bytes, never empty, "." or "..", without "/" and
 * NUL (DESIGN.md section 2, "Names").
 */
#ifndef JOTSFS_CACHE_NAMES_H
#define JOTSFS_CACHE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NAMES_MAX_SHOWN = 255, /* NAME_MAX */
    NAMES_MAX_NOTE = 200,  /* bytes of a filename, API.md (b) */
    NAMES_MAX_FOLDER = 80, /* characters of a folder name, API.md (b) */
};

enum names_kind { NAMES_NOTE, NAMES_FOLDER };

/* Checks a name that a program wants to create and gives its NFC form (at most
 * NAMES_MAX_NOTE bytes, NUL-terminated) in OUT.
 * -ENAMETOOLONG over 200 bytes after NFC (over 80 characters for a folder), -EINVAL for
 * control and format characters (Unicode Cc, Cf) or an empty name, -EILSEQ if it isn't UTF-8. */
int names_check(enum names_kind kind, const char *name, char out[NAMES_MAX_SHOWN + 1]);

/* NFC form of any name looked up, for comparison with shown names. -EILSEQ if it isn't
 * UTF-8, -ENAMETOOLONG over 255 bytes after NFC. */
int names_normalise(const char *name, char out[NAMES_MAX_SHOWN + 1]);

/* Key under which the service may hold two names equal: NFC, case-folded (API.md C13).
 * Same limits and errors as names_normalise, up to KEY_SIZE bytes with the NUL. */
enum { NAMES_KEY_SIZE = 1024 };
int names_fold(const char *name, char out[NAMES_KEY_SIZE]);

/* Editors' and desktops' debris (DESIGN.md section 2, "Scratch names") that never leaves the machine. LOCAL_GLOBS is a
 * NULL-terminated list of fnmatch patterns (may be NULL). */
bool names_is_scratch(const char *name, char *const *local_globs);

/* Shown name of a remote note or folder. Total: any bytes are accepted. The plain form is the NFC
 * form with "/", "." and ".." (whole names), control characters and bytes that aren't UTF-8 as %XX; a
 * literal "%" only where it would read as one of these ("%2F" shows as "%252F", "%20" stays), and
 * combining marks after an escape. More than 255 bytes: cut at a character, then "~ID"; an empty name: "~ID".
 * TAKEN: the plain form already belongs to another node of the same directory, use NAME~ID.
 *
 * Injective: plain forms are equal only for names with the same NFC form; forms with ~ID are equal
 * only for the same id. The one meeting that is left to the caller: a name that itself
 * ends in "~12" has the plain form that node 12 may have with ~ID. Whoever shows plainly gives way: call again for it
 * with TAKEN. Since every id has only one form with ~ID that ends. */
void names_show(const char *remote, int64_t id, bool taken, char out[NAMES_MAX_SHOWN + 1]);

/* "NAME (conflict 2026-11-23 17.48.00)" / "NAME (local ...)", NAME cut so that it stays within
 * NAMES_MAX_NOTE bytes, with " 2", " 3".. for ATTEMPT 2, 3, ... An extension (".txt") stays last. WHEN is seconds since the
 * epoch, shown in local time. */
enum names_why { NAMES_CONFLICT, NAMES_LOCAL };
void names_copy_of(const char *name, enum names_why why, int64_t when, unsigned attempt,
                   char out[NAMES_MAX_SHOWN + 1]);

/* A name that no user has: for swaps and cycles on the server. Deterministic in ID. */
void names_temporary(int64_t id, char out[NAMES_MAX_SHOWN + 1]);

/* True if the service's filename is one that a title NAME may have become by the slug
 * rule or the documented rule (API.md C11): the alias then keeps the user's name. */
bool names_is_rendering(const char *name, const char *filename);

#endif
