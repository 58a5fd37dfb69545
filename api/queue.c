/* queue: who is sent next, as far as order goes; whether anyone may is the budget's business.
 *
 * One line per class and priority, sorted by `turn`. An item gets its turn when it joins
 * a line, and keeps it while it is being sent: a call that comes back with a 429
 * is put where its turn says, which is before everything that came later. A raised item joins
 * its new line as a newcomer.
 *
 * Invariant: an item is in at most one line, and then in that of its class and priority.
 * Used by http, under its lock.
 */
#include "api/queue.h"

#include <stddef.h>

void queue_init(struct queue *queue) {
    *queue = (struct queue){.next_ticket = 1, .next_turn = 1};
}

static struct queue_line *line_of(struct queue *queue, const struct queue_item *item) {
    return &queue->lines[item->class_id][item->priority];
}

static void insert_after(struct queue_line *line, struct queue_item *before, struct queue_item *item) {
    struct queue_item *behind = before ? before->next : line->first;

    item->previous = before;
    item->next = behind;
    if (before)
        before->next = item;
    else
        line->first = item;
    if (behind)
        behind->previous = item;
    else
        line->last = item;
    line->count++;
}

void queue_add(struct queue *queue, struct queue_item *item) {
    struct queue_line *line = line_of(queue, item);

    item->ticket = queue->next_ticket++;
    item->turn = queue->next_turn++;
    insert_after(line, line->last, item);
}

void queue_put_back(struct queue *queue, struct queue_item *item) {
    struct queue_line *line = line_of(queue, item);
    struct queue_item *before = NULL;

    for (struct queue_item *at = line->first; at && at->turn < item->turn; at = at->next)
        before = at;
    insert_after(line, before, item);
}

void queue_remove(struct queue *queue, struct queue_item *item) {
    struct queue_line *line = line_of(queue, item);

    if (item->previous)
        item->previous->next = item->next;
    else
        line->first = item->next;
    if (item->next)
        item->next->previous = item->previous;
    else
        line->last = item->previous;
    item->next = item->previous = NULL;
    line->count--;
}

struct queue_item *queue_first(const struct queue *queue, enum service_class class_id,
                               enum service_priority priority) {
    return queue->lines[class_id][priority].first;
}

static struct queue_item *find(const struct queue *queue, uint64_t ticket,
                               enum service_priority better_than) {
    for (int i = 0; i < SERVICE_CLASSES; i++) {
        for (int priority = (int)better_than + 1; priority < QUEUE_PRIORITIES; priority++) {
            for (struct queue_item *at = queue->lines[i][priority].first; at; at = at->next) {
                if (at->ticket == ticket)
                    return at;
            }
        }
    }
    return NULL;
}

void queue_raise(struct queue *queue, uint64_t ticket, enum service_priority priority) {
    struct queue_item *item = find(queue, ticket, priority);
    struct queue_line *line;

    if (!item)
        return;
    queue_remove(queue, item);
    item->priority = priority;
    item->turn = queue->next_turn++;
    line = line_of(queue, item);
    insert_after(line, line->last, item);
}

unsigned queue_count(const struct queue *queue, enum service_class class_id, enum service_priority priority) {
    unsigned count = 0;

    for (int i = 0; i <= (int)priority; i++)
        count += queue->lines[class_id][i].count;
    return count;
}
