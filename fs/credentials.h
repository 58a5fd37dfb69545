/* credentials: where the token comes from; never an argument. */
#ifndef JOTSFS_FS_CREDENTIALS_H
#define JOTSFS_FS_CREDENTIALS_H

struct credentials {
    char *text; /* from the environment, or NULL */
    char *file; /* else this file, which the service reads itself */
};

/* Takes the token out of the environment, where neither children nor /proc/PID/environ show it afterwards.
 * TOKEN_FILE: of the options, may be NULL. -ENOENT: there is none; -ENOMEM. Call before there are threads. */
int credentials_init(struct credentials *out, const char *token_file);
/* Salted hash of the token, for cache_config.fingerprint (ARG: struct credentials). Takes some ms. */
int credentials_fingerprint(const char *setting, char *out, void *arg);
void credentials_release(struct credentials *credentials);

#endif
