#include "runtime/encoder.h"

#include "runtime/base/arena.h"
#include "runtime/base/clock.h"

#include <pthread.h>

enum { TEXT_BYTES_MAX = 512 * 1024 };

struct ld_encoder {
    pthread_t thread;
    bool has_thread, stop;
    pthread_mutex_t lock;
    pthread_cond_t given, made;
    struct ld_encoding *first, *last; /* not begun */
    uint64_t next_serial;
};

/* ---- A picture ------------------------------------------------------------------------------- */

struct ld_encoding *ld_encoding_create(void)
{
    struct ld_encoding *encoding = ld_heap_alloc(sizeof *encoding);
    if (!encoding)
        return NULL;
    for (int i = 0; i < LD_ENCODING_TEXTS; i++)
        encoding->texts[i] = ld_buffer_make(TEXT_BYTES_MAX);
    encoding->file = ld_buffer_make(LD_PNG_BYTES_MAX);
    return encoding;
}

void ld_encoding_destroy(struct ld_encoding *encoding)
{
    if (!encoding)
        return;
    ld_block_free(encoding->rgb, 3 * (size_t)encoding->width * (size_t)encoding->height);
    for (int i = 0; i < LD_ENCODING_TEXTS; i++)
        ld_buffer_deinit(&encoding->texts[i]);
    ld_buffer_deinit(&encoding->file);
    ld_heap_free(encoding);
}

static void make(struct ld_encoding *encoding)
{
    const struct ld_png_text texts[LD_ENCODING_TEXTS] = {
        {"parameters", encoding->texts[0].data, false},
        {"prompt", encoding->texts[1].data, false},
        {"latentd", encoding->texts[2].data, true},
    };
    const struct ld_picture_image image = {
        .pixels = encoding->rgb,
        .width = encoding->width,
        .height = encoding->height,
        .channels = 3,
        .form = encoding->form,
        .texts = texts,
        .text_count = encoding->texts_on ? LD_ENCODING_TEXTS : 0,
    };
    const int64_t start_us = ld_clock_monotonic_us();
    encoding->code = ld_picture_write(&encoding->file, &image, &encoding->err);
    encoding->spent_us = ld_clock_monotonic_us() - start_us;
}

/* ---- The thread ------------------------------------------------------------------------------ */

static void *encode(void *pointer)
{
    struct ld_encoder *encoder = pointer;
    pthread_mutex_lock(&encoder->lock);
    for (;;) {
        while (!encoder->first && !encoder->stop)
            pthread_cond_wait(&encoder->given, &encoder->lock);
        struct ld_encoding *encoding = encoder->first;
        if (!encoding)
            break;
        encoder->first = encoding->next;
        pthread_mutex_unlock(&encoder->lock);
        make(encoding);
        pthread_mutex_lock(&encoder->lock);
        encoding->done = true;
        if (encoding->dropped)
            ld_encoding_destroy(encoding);
        pthread_cond_broadcast(&encoder->made);
    }
    pthread_mutex_unlock(&encoder->lock);
    return NULL;
}

enum ld_code ld_encoder_create(struct ld_encoder **out, struct ld_error *err)
{
    *out = ld_heap_alloc(sizeof **out);
    struct ld_encoder *encoder = *out;
    if (!encoder)
        return LD_FAIL(err, LD_E_NOMEM, "out of memory");
    (void)pthread_mutex_init(&encoder->lock, NULL);
    (void)pthread_cond_init(&encoder->given, NULL);
    (void)pthread_cond_init(&encoder->made, NULL);
    encoder->has_thread = pthread_create(&encoder->thread, NULL, encode, encoder) == 0;
    return LD_OK;
}

void ld_encoder_destroy(struct ld_encoder *encoder)
{
    if (!encoder)
        return;
    LD_ASSERT(!encoder->first);
    pthread_mutex_lock(&encoder->lock);
    encoder->stop = true;
    pthread_cond_signal(&encoder->given);
    pthread_mutex_unlock(&encoder->lock);
    if (encoder->has_thread)
        (void)pthread_join(encoder->thread, NULL);
    (void)pthread_cond_destroy(&encoder->made);
    (void)pthread_cond_destroy(&encoder->given);
    (void)pthread_mutex_destroy(&encoder->lock);
    ld_heap_free(encoder);
}

/* ---- From outside ---------------------------------------------------------------------------- */

void ld_encoder_give(struct ld_encoder *encoder, struct ld_encoding *encoding)
{
    encoding->next = NULL;
    encoding->done = encoding->dropped = false;
    encoding->serial = encoder->next_serial++;
    if (!encoder->has_thread) {
        make(encoding);
        encoding->done = true;
        return;
    }
    pthread_mutex_lock(&encoder->lock);
    *(encoder->first ? &encoder->last->next : &encoder->first) = encoding;
    encoder->last = encoding;
    pthread_cond_signal(&encoder->given);
    pthread_mutex_unlock(&encoder->lock);
}

bool ld_encoder_done(struct ld_encoder *encoder, const struct ld_encoding *encoding)
{
    pthread_mutex_lock(&encoder->lock);
    const bool done = encoding->done;
    pthread_mutex_unlock(&encoder->lock);
    return done;
}

void ld_encoder_wait(struct ld_encoder *encoder, const struct ld_encoding *encoding)
{
    pthread_mutex_lock(&encoder->lock);
    while (!encoding->done)
        pthread_cond_wait(&encoder->made, &encoder->lock);
    pthread_mutex_unlock(&encoder->lock);
}

void ld_encoder_drop(struct ld_encoder *encoder, struct ld_encoding *encoding)
{
    struct ld_encoding *before = NULL;
    pthread_mutex_lock(&encoder->lock);
    struct ld_encoding *found = encoder->first;
    for (; found && found != encoding; found = found->next)
        before = found;
    encoding->dropped = !found && !encoding->done; /* the thread has it in hand */
    const bool ours = !encoding->dropped;
    if (found)
        *(before ? &before->next : &encoder->first) = encoding->next;
    if (found && encoder->last == encoding)
        encoder->last = before;
    pthread_mutex_unlock(&encoder->lock);
    if (ours)
        ld_encoding_destroy(encoding);
}
