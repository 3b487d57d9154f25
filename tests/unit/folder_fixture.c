#include "tests/unit/folder_fixture.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char test_folder[64];
char test_plans[80];

bool make_test_folder(const char *stem)
{
    (void)snprintf(test_folder, sizeof test_folder, "/tmp/%s.XXXXXX", stem);
    if (!mkdtemp(test_folder))
        return false;
    (void)snprintf(test_plans, sizeof test_plans, "%s/plans", test_folder);
    return true;
}

static int each_file(const char *folder, const char *start, bool goes)
{
    DIR *dir = opendir(folder);
    int count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strncmp(entry->d_name, start, strlen(start)) != 0)
            continue;
        count++;
        if (goes)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    if (dir)
        (void)closedir(dir);
    return count;
}

int count_files(const char *folder, const char *start)
{
    return each_file(folder, start, false);
}

void remove_files(const char *folder, const char *start)
{
    (void)each_file(folder, start, true);
}

bool remove_test_folder(void)
{
    remove_files(test_plans, "");
    (void)rmdir(test_plans);
    return rmdir(test_folder) == 0;
}
