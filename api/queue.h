/* queue: calls that wait to be sent: by class, by priority, first come first served. Not locked. */
#ifndef JOTSFS_API_QUEUE_H
#define JOTSFS_API_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "api/service.h"

enum { QUEUE_PRIORITIES = SERVICE_PREFETCH + 1 };

/* A place in the queue; first member of what waits. */
struct queue_item {
    struct queue_item *next, *previous;
    uint64_t ticket; /* set by queue_add() */
    uint64_t turn;   /* the smallest of a line goes first */
    enum service_class class_id;
    enum service_priority priority;
};

struct queue_line {
    struct queue_item *first, *last;
    unsigned count;
};

struct queue {
    struct queue_line lines[SERVICE_CLASSES][QUEUE_PRIORITIES];
    uint64_t next_ticket, next_turn;
};

void queue_init(struct queue *queue);
/* Gives ITEM (class and priority set) a ticket and the last place of its line. */
void queue_add(struct queue *queue, struct queue_item *item);
/* Puts an item that had been removed back to where its turn is: before all that came later. */
void queue_put_back(struct queue *queue, struct queue_item *item);
void queue_remove(struct queue *queue, struct queue_item *item);
/* The next of a line, or NULL. */
struct queue_item *queue_first(const struct queue *queue, enum service_class class_id,
                               enum service_priority priority);
/* Moves the item to the end of a better line; unknown tickets are ignored. */
void queue_raise(struct queue *queue, uint64_t ticket, enum service_priority priority);
/* How many wait in CLASS_ID with at least this PRIORITY. */
unsigned queue_count(const struct queue *queue, enum service_class class_id, enum service_priority priority);

#endif
