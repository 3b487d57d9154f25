#include "tests/tools/demo_vocabulary.h"

#include "runtime/base/arena.h"

#include <string.h>

enum {
    WORD_SIZE = 24,
    WORDS_MAX = 256,
    ALPHABET = 128, /* all words are ASCII */
    SYMBOLS_MAX = ALPHABET * 2 + 1024,
    SYMBOL_SIZE = WORD_SIZE + 8
};

/* Plain description words, colours, and the counting and quality tags of anime prompts. */
static const char *const WORDS[] = {
    "a",         "an",        "the",       "of",       "in",        "on",          "with",
    "and",       "at",        "by",        "from",     "under",     "over",        "behind",
    "front",     "view",      "looking",   "viewer",   "solo",      "girl",        "girls",
    "boy",       "boys",      "1girl",     "1boy",     "2girls",    "woman",       "man",
    "cat",       "dog",       "fox",       "bird",     "horse",     "dragon",      "fish",
    "animal",    "ears",      "tail",      "wings",    "horns",     "hair",        "eyes",
    "face",      "smile",     "hand",      "hands",    "standing",  "sitting",     "walking",
    "running",   "lying",     "sleeping",  "holding",  "wearing",   "dress",       "shirt",
    "skirt",     "hat",       "coat",      "boots",    "gloves",    "ribbon",      "uniform",
    "kimono",    "armor",     "sword",     "flower",   "flowers",   "tree",        "trees",
    "forest",    "grass",     "field",     "mountain", "mountains", "river",       "lake",
    "sea",       "ocean",     "beach",     "island",   "sky",       "cloud",       "clouds",
    "sun",       "moon",      "star",      "stars",    "rain",      "snow",        "storm",
    "night",     "day",       "morning",   "evening",  "sunset",    "sunrise",     "spring",
    "summer",    "autumn",    "winter",    "city",     "street",    "house",       "castle",
    "tower",     "bridge",    "room",      "window",   "door",      "garden",      "road",
    "train",     "car",       "ship",      "boat",     "space",     "planet",      "fire",
    "water",     "ice",       "light",     "shadow",   "dark",      "bright",      "red",
    "orange",    "yellow",    "green",     "blue",     "purple",    "pink",        "white",
    "black",     "grey",      "brown",     "golden",   "silver",    "long",        "short",
    "big",       "small",     "old",       "young",    "new",       "soft",        "warm",
    "cold",      "beautiful", "cute",      "detailed", "simple",    "background",  "portrait",
    "landscape", "scenery",   "painting",  "drawing",  "sketch",    "photo",       "watercolor",
    "oil",       "ink",       "pixel",     "art",      "style",     "anime",       "best",
    "good",      "normal",    "worst",     "low",      "high",      "quality",     "amazing",
    "very",      "aesthetic", "absurdres", "highres",  "lowres",    "masterpiece", "displeasing",
    "bad",       "anatomy",   "blurry",    "jpeg",     "artifacts", "text",        "watermark",
    "signature", "error",     "missing",   "extra",    "fingers",   "cropped",     "monochrome",
    "colorful",  "outdoors",  "indoors",   "upper",    "lower",     "body",        "full",
    "close",     "up",        "from",      "above",    "below",     "side",        "back",
    "open",      "closed",    "mouth",     "happy",    "sad",       "angry",       "general",
    "sensitive", "nsfw",      "rating",    "year",     "newest",    "recent",      "2023",
    "2024"};
enum { WORD_COUNT = sizeof WORDS / sizeof WORDS[0] };
_Static_assert((int)WORD_COUNT <= (int)WORDS_MAX, "the learner's table is too small");

struct learner {
    char symbols[SYMBOLS_MAX][SYMBOL_SIZE]; /* by id: byte, byte + "</w>", then merges */
    uint16_t words[WORDS_MAX][WORD_SIZE];
    uint16_t lengths[WORDS_MAX];
    uint32_t symbol_count;
    uint16_t counts[SYMBOLS_MAX][SYMBOLS_MAX];
};

static void start(struct learner *learner)
{
    for (uint32_t c = 0; c < ALPHABET; c++) {
        learner->symbols[c][0] = (char)c;
        (void)ld_fmt(learner->symbols[ALPHABET + c], SYMBOL_SIZE, "%c</w>", (char)c);
    }
    learner->symbol_count = 2 * ALPHABET;
    for (uint32_t w = 0; w < WORD_COUNT; w++) {
        const size_t length = strlen(WORDS[w]);
        LD_ASSERT(length < WORD_SIZE);
        for (size_t i = 0; i < length; i++)
            learner->words[w][i] = (uint16_t)(WORDS[w][i] + (i + 1 == length ? ALPHABET : 0));
        learner->lengths[w] = (uint16_t)length;
    }
}

/* Add one for every pair that stands in a word, or forget them all. */
static void count_pairs(struct learner *learner, bool clear)
{
    for (uint32_t w = 0; w < WORD_COUNT; w++)
        for (uint32_t i = 0; i + 1 < learner->lengths[w]; i++) {
            uint16_t *count = &learner->counts[learner->words[w][i]][learner->words[w][i + 1]];
            *count = clear ? 0 : (uint16_t)(*count + 1);
        }
}

/* The pair that occurs most often, the one of lowest ids among equals; false if no pair is left. */
static bool most_frequent(struct learner *learner, uint16_t *left, uint16_t *right)
{
    uint16_t most = 0;
    count_pairs(learner, false);
    for (uint32_t w = 0; w < WORD_COUNT; w++)
        for (uint32_t i = 0; i + 1 < learner->lengths[w]; i++) {
            const uint16_t l = learner->words[w][i];
            const uint16_t r = learner->words[w][i + 1];
            const uint16_t count = learner->counts[l][r];
            const bool lower = l < *left || (l == *left && r < *right);
            if (count > most || (count == most && lower)) {
                most = count;
                *left = l;
                *right = r;
            }
        }
    count_pairs(learner, true);
    return most > 0;
}

static void merge(struct learner *learner, uint16_t left, uint16_t right)
{
    const uint16_t merged = (uint16_t)learner->symbol_count++;
    (void)ld_fmt(learner->symbols[merged], SYMBOL_SIZE, "%s%s", learner->symbols[left],
                 learner->symbols[right]);
    for (uint32_t w = 0; w < WORD_COUNT; w++) {
        uint16_t *word = learner->words[w];
        uint16_t kept = 0;
        for (uint16_t i = 0; i < learner->lengths[w]; i++) {
            if (i + 1 < learner->lengths[w] && word[i] == left && word[i + 1] == right) {
                word[kept++] = merged;
                i++;
            } else {
                word[kept++] = word[i];
            }
        }
        learner->lengths[w] = kept;
    }
}

uint32_t ld_demo_vocabulary(struct ld_buffer *out)
{
    struct learner *learner = ld_block_alloc(sizeof *learner);
    uint32_t merges = 0;
    uint16_t left = 0;
    uint16_t right = 0;
    if (!learner)
        return 0;
    start(learner);
    ld_buffer_text(out, "#version: latentd demo\n");
    while (learner->symbol_count < SYMBOLS_MAX && most_frequent(learner, &left, &right)) {
        ld_buffer_format(out, "%s %s\n", learner->symbols[left], learner->symbols[right]);
        merge(learner, left, right);
        merges++;
    }
    ld_block_free(learner, sizeof *learner);
    return out->failed ? 0 : merges;
}
