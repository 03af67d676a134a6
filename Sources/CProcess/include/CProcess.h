// The few lines that Swift cannot say: what happens between fork and exec, and Linux calls without a header
// in Swift. Every function returns a negative errno when it fails.
#pragma once
#include <stdint.h>
#include <sys/types.h>

// Where a spawn failed. Values cross the exec pipe together with errno.
enum crmm_step {
    CRMM_STEP_FORK = 1,
    CRMM_STEP_GROUP,
    CRMM_STEP_STREAMS,
    CRMM_STEP_LIMITS,
    CRMM_STEP_USER,
    CRMM_STEP_DEATH_SIGNAL,
    CRMM_STEP_DIRECTORY,
    CRMM_STEP_EXEC,
};

enum crmm_isolation { CRMM_SHARED = 0, CRMM_PROCESS_GROUP = 1, CRMM_SESSION = 2 };

struct crmm_spawn {
    const char *executable;
    char *const *argv;          // NULL at the end
    char *const *envp;          // NULL at the end
    const char *directory;      // NULL: the parent's
    int streams[3];             // become 0, 1 and 2
    int isolation;              // enum crmm_isolation
    int drop_privileges;        // 0: user, group and groups are not used
    uid_t user;
    gid_t group;
    const gid_t *groups;
    size_t group_count;
    int parent_death_signal;    // 0: none
    int64_t open_files_max;     // -1: the parent's
    int64_t file_bytes_max;     // -1: the parent's
    int64_t core_bytes_max;     // -1: the parent's
};

// Forks; the child goes on to exec by itself, which may take as long as its working directory takes.
// `report` is a descriptor (close-on-exec) that tells what became of it.
pid_t crmm_spawn(const struct crmm_spawn *options, int *report);
// What became of exec: 0 it succeeded or the child was killed before; 1 not known yet, unless the call may
// wait; a negative errno it failed at `step`.
int crmm_spawn_result(int report, int may_wait, int *step);

// A descriptor (close-on-exec) that becomes readable when the process has ended.
int crmm_pidfd_open(pid_t pid);
int crmm_pidfd_signal(int pidfd, int signal);

// Collects the exit of exactly this child: 1 collected, 0 still running.
int crmm_reap(pid_t pid, int *code, int *signaled);
// The pid of any child that has ended and is not collected yet; 0: none ended; -ECHILD: no children at all.
pid_t crmm_peek_ended(void);

// Orphaned descendants become children of this process instead of init's.
int crmm_become_subreaper(void);

// Both ends are close-on-exec.
int crmm_pipe(int ends[2]);
// A close-on-exec eventfd.
int crmm_eventfd(void);
// Blocks until the eventfd was notified.
int crmm_event_wait(int descriptor);
void crmm_event_notify(int descriptor);

// Keeps SIGPIPE from the calling thread: writes to a closed pipe give EPIPE alone.
void crmm_block_sigpipe(void);
void crmm_name_thread(const char *name);

// What stands at a name in an open directory, looked at without following a link and without asking a
// server; an empty name is the descriptor itself.
struct crmm_entry {
    int is_directory;
    int is_mount_root;          // 0 also where the kernel does not say
    uint32_t mode;
    uint64_t mount;             // 0: the kernel does not say
};
int crmm_look(int directory, const char *name, struct crmm_entry *entry);
// A descriptor (O_PATH, close-on-exec) of a directory below a directory; a link is refused.
int crmm_open_place(int directory, const char *name);

int crmm_random(void *bytes, size_t count);
// Raises the number of descriptors that this process may have open to the most that it may set, and says it.
int64_t crmm_raise_descriptors(void);
// A connected unix stream socket (close-on-exec) whose operations give EAGAIN after this time.
int crmm_connect_unix(const char *path, int timeout_milliseconds);

// Rows and columns of the terminal behind a descriptor.
int crmm_terminal_size(int descriptor, int *rows, int *columns);
// Keys come one by one, unechoed, Ctrl-C too; output stays as it is written. The modes of before are kept
// for crmm_terminal_end, which may be called at any time and any number of times.
int crmm_terminal_begin(int descriptor);
int crmm_terminal_end(void);
// A new terminal of this size: its two ends (close-on-exec), and the path of the second.
int crmm_terminal_open(int ends[2], char *path, size_t path_bytes, int rows, int columns);
int crmm_terminal_resize(int descriptor, int rows, int columns);
// Whether keys are echoed and come by lines.
int crmm_terminal_is_cooked(int descriptor);
