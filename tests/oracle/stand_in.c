/* Stand-ins for programs of Windows, for the runner's tests under Wine; which one it is follows from its file name.

   dism, pkgmgr, shutdown: note the command line in C:\stand-in\calls.txt, and end with the next line of
                           C:\stand-in\NAME.codes (the last one again where there are no more).
   fc:                     compares two files, byte for byte, as FC /B does (0 the same, 1 different, 2 not there).
   scm:                    starts the service named by its argument as the service control manager does: the ImagePath
                           of its key, expanded, given to CreateProcess; it does not wait. */

#include <windows.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int note_and_end(const char *name)
{
    char path[MAX_PATH], line[64] = "0";
    FILE *calls = fopen("C:\\stand-in\\calls.txt", "ab"), *codes;
    long skip = 0;

    if (!calls)
        return 99;
    fprintf(calls, "%s\r\n", GetCommandLineA());
    fclose(calls);
    snprintf(path, sizeof path, "C:\\stand-in\\%s.count", name);
    if ((codes = fopen(path, "rb"))) {
        if (fscanf(codes, "%ld", &skip) != 1)
            skip = 0;
        fclose(codes);
    }
    if ((codes = fopen(path, "wb"))) {
        fprintf(codes, "%ld", skip + 1);
        fclose(codes);
    }
    snprintf(path, sizeof path, "C:\\stand-in\\%s.codes", name);
    if ((codes = fopen(path, "rb"))) {
        while (skip-- >= 0 && fgets(line, sizeof line, codes))
            ;
        fclose(codes);
    }
    return (int)strtoll(line, NULL, 10);
}

static int compare(int count, char **arguments)
{
    FILE *a = fopen(arguments[count - 2], "rb"), *b = fopen(arguments[count - 1], "rb");
    int left, right;

    if (!a || !b)
        return 2;
    do {
        left = fgetc(a);
        right = fgetc(b);
    } while (left == right && left != EOF);
    return left != right;
}

static int start(const char *service)
{
    char key[MAX_PATH], stored[2048], command[4096];
    DWORD size = sizeof stored;
    STARTUPINFOA startup = {sizeof startup};
    PROCESS_INFORMATION process;

    snprintf(key, sizeof key, "SYSTEM\\CurrentControlSet\\Services\\%s", service);
    if (RegGetValueA(HKEY_LOCAL_MACHINE, key, "ImagePath", RRF_RT_ANY | RRF_NOEXPAND, NULL, stored, &size))
        return 98;
    if (!ExpandEnvironmentStringsA(stored, command, sizeof command))
        return 97;
    return CreateProcessA(NULL, command, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &process) ? 0 : 96;
}

int main(int count, char **arguments)
{
    char path[MAX_PATH], *name;

    GetModuleFileNameA(NULL, path, sizeof path);
    name = strrchr(path, '\\') + 1;
    *strrchr(name, '.') = 0;
    if (!_stricmp(name, "fc"))
        return compare(count, arguments);
    if (!_stricmp(name, "scm"))
        return start(arguments[1]);
    return note_and_end(_strlwr(name));
}
