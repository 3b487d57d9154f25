/*
 * A tuning folder of a test's own below /tmp, made for each claim. It goes only once it is empty:
 * what a claim must not leave there is what it does not take away.
 */
#ifndef FOLDER_FIXTURE_H
#define FOLDER_FIXTURE_H

#include <stdbool.h>

extern char test_folder[64]; /* its path */
extern char test_plans[80];  /* where plan_store.h keeps its files in it */

/* "/tmp/STEM.XXXXXX". False: cannot be made. */
bool make_test_folder(const char *stem);
/* With the plans, all that is in their folder. False: something else is still there. */
bool remove_test_folder(void);

/* The files of `folder` whose names begin with `start`, temporary ones too; none without the
 * folder. */
int count_files(const char *folder, const char *start);
void remove_files(const char *folder, const char *start);

#endif
