#define _GNU_SOURCE
#include "CProcess.h"

#include <termios.h>
#include <sys/ioctl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif
#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

// ---- between fork and exec: async-signal-safe calls only ----

static int limit(int resource, int64_t value) {
    if (value < 0) return 0;
    struct rlimit limit = {.rlim_cur = (rlim_t)value, .rlim_max = (rlim_t)value};
    return setrlimit(resource, &limit);
}

static int set_streams(const int streams[3]) {
    // The sources may themselves be 0, 1 or 2: move them out of the way first.
    int moved[3];
    for (int i = 0; i < 3; i++) {
        moved[i] = fcntl(streams[i], F_DUPFD_CLOEXEC, 3);
        if (moved[i] < 0) return -1;
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(moved[i], i) < 0) return -1;
    }
    return 0;
}

// Raw system calls: glibc's wrappers would try to change all threads, and there is but one here.
static int drop_privileges(const struct crmm_spawn *options) {
    if (syscall(SYS_setgroups, options->group_count, options->groups) != 0) return -1;
    if (syscall(SYS_setresgid, options->group, options->group, options->group) != 0) return -1;
    return (int)syscall(SYS_setresuid, options->user, options->user, options->user);
}

// All but the streams and the report, which becomes 3: a child that waits for a working directory that does
// not answer holds neither locks nor pipes of the parent.
static int close_others(int *report) {
    if (*report != 3) {
        if (dup3(*report, 3, O_CLOEXEC) < 0) return -1;
        *report = 3;
    }
    if (syscall(SYS_close_range, 4U, ~0U, 0) == 0) return 0;
    struct rlimit limit;
    int end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
    for (int descriptor = 4; descriptor < end; descriptor++) close(descriptor);
    return 0;
}

// Returns the step that failed with errno set; does not return when exec succeeds.
static int become(const struct crmm_spawn *options, pid_t parent, int *report) {
    if (options->isolation == CRMM_PROCESS_GROUP && setpgid(0, 0) != 0) return CRMM_STEP_GROUP;
    if (options->isolation == CRMM_SESSION && setsid() < 0) return CRMM_STEP_GROUP;
    if (set_streams(options->streams) != 0 || close_others(report) != 0) return CRMM_STEP_STREAMS;
    if (limit(RLIMIT_NOFILE, options->open_files_max) != 0
        || limit(RLIMIT_FSIZE, options->file_bytes_max) != 0
        || limit(RLIMIT_CORE, options->core_bytes_max) != 0)
        return CRMM_STEP_LIMITS;
    if (options->drop_privileges && drop_privileges(options) != 0) return CRMM_STEP_USER;
    if (options->parent_death_signal != 0) {
        // A change of user clears the signal, so it is set after it (prctl(2)). The parent may be gone by
        // now.
        if (prctl(PR_SET_PDEATHSIG, options->parent_death_signal) != 0) return CRMM_STEP_DEATH_SIGNAL;
        if (getppid() != parent) _exit(127);
    }
    if (options->directory != NULL && chdir(options->directory) != 0) return CRMM_STEP_DIRECTORY;

    // Raw, because glibc hides its two own signals, which may be inherited as ignored; all zero is SIG_DFL.
    static const unsigned char defaults[64];
    for (int signal = 1; signal <= 64; signal++) syscall(SYS_rt_sigaction, signal, defaults, NULL, 8);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(options->executable, options->argv, options->envp);
    return CRMM_STEP_EXEC;
}

// ---- the parent ----

pid_t crmm_spawn(const struct crmm_spawn *options, int *report) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    int writer = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
    int failure = errno;
    close(ends[1]);
    if (writer < 0) {
        close(ends[0]);
        return -failure;
    }

    // No handler of this process may run in the child before its signals are reset.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        int message[2];
        message[0] = become(options, parent, &writer);
        message[1] = errno;
        ssize_t ignored = write(writer, message, sizeof message);
        (void)ignored;
        _exit(127);
    }
    failure = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(writer);
    if (child < 0) {
        close(ends[0]);
        return -failure;
    }
    *report = ends[0];
    return child;
}

int crmm_spawn_result(int report, int may_wait, int *step) {
    struct pollfd wanted = {.fd = report, .events = POLLIN};
    int ready;
    do ready = poll(&wanted, 1, may_wait ? -1 : 0);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) return 1;
    int message[2];
    ssize_t count;
    do count = read(report, message, sizeof message);
    while (count < 0 && errno == EINTR);
    if (count != (ssize_t)sizeof message) return 0;
    *step = message[0];
    return -message[1];
}

int crmm_pidfd_open(pid_t pid) {
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    return descriptor < 0 ? -errno : descriptor;
}

int crmm_pidfd_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0 ? 0 : -errno;
}

int crmm_reap(pid_t pid, int *code, int *signaled) {
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) != 0) {
        if (errno != EINTR) return -errno;
    }
    if (info.si_pid == 0) return 0;
    *code = info.si_status;
    *signaled = info.si_code != CLD_EXITED;
    return 1;
}

pid_t crmm_peek_ended(void) {
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        if (errno != EINTR) return -errno;
    }
    return info.si_pid;
}

int crmm_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 ? 0 : -errno; }

int crmm_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) == 0 ? 0 : -errno; }

int crmm_eventfd(void) {
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

int crmm_event_wait(int descriptor) {
    uint64_t value;
    while (read(descriptor, &value, sizeof value) < 0) {
        if (errno == EAGAIN) {
            struct pollfd wanted = {.fd = descriptor, .events = POLLIN};
            poll(&wanted, 1, -1);
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

void crmm_event_notify(int descriptor) {
    uint64_t one = 1;
    ssize_t ignored = write(descriptor, &one, sizeof one);
    (void)ignored;
}

void crmm_block_sigpipe(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void crmm_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int crmm_look(int directory, const char *name, struct crmm_entry *entry) {
    struct statx status;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | AT_EMPTY_PATH;
    unsigned mask = STATX_TYPE | STATX_MODE | STATX_MNT_ID;
    if (statx(directory, name, flags, mask, &status) != 0) return -errno;
    *entry = (struct crmm_entry){
        .is_directory = S_ISDIR(status.stx_mode),
        .is_mount_root = (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0,
        .mode = status.stx_mode & 07777,
        .mount = (status.stx_mask & STATX_MNT_ID) != 0 ? status.stx_mnt_id : 0,
    };
    return 0;
}

int crmm_open_place(int directory, const char *name) {
    int descriptor = openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

int crmm_random(void *bytes, size_t count) {
    unsigned char *next = bytes;
    while (count > 0) {
        ssize_t got = getrandom(next, count, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        next += got;
        count -= (size_t)got;
    }
    return 0;
}

int crmm_connect_unix(const char *path, int timeout_milliseconds) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -errno;
    struct timeval time = {
        .tv_sec = timeout_milliseconds / 1000,
        .tv_usec = (timeout_milliseconds % 1000) * 1000,
    };
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0
        && setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) == 0
        && connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0)
        return descriptor;
    int failure = errno;
    close(descriptor);
    return -failure;
}

int crmm_terminal_size(int descriptor, int *rows, int *columns) {
    struct winsize size;
    if (ioctl(descriptor, TIOCGWINSZ, &size) != 0) return -errno;
    if (size.ws_row == 0 || size.ws_col == 0) return -ENODATA;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return 0;
}

static int terminal = -1;
static struct termios terminal_modes;

int crmm_terminal_begin(int descriptor) {
    struct termios modes;
    if (tcgetattr(descriptor, &modes) != 0) return -errno;
    if (terminal < 0) terminal_modes = modes;
    terminal = descriptor;
    modes.c_iflag &= ~(tcflag_t)(ICRNL | IXON);
    modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    return tcsetattr(descriptor, TCSAFLUSH, &modes) == 0 ? 0 : -errno;
}

int crmm_terminal_end(void) {
    if (terminal < 0) return 0;
    int descriptor = terminal;
    terminal = -1;
    return tcsetattr(descriptor, TCSAFLUSH, &terminal_modes) == 0 ? 0 : -errno;
}

int crmm_terminal_open(int ends[2], char *path, size_t path_bytes, int rows, int columns) {
    int first = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (first < 0) return -errno;
    int second = -1;
    int failure = grantpt(first) != 0 || unlockpt(first) != 0 ? errno : ptsname_r(first, path, path_bytes);
    if (failure == 0) {
        second = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        failure = second < 0 ? errno : -crmm_terminal_resize(second, rows, columns);
    }
    if (failure != 0) {
        if (second >= 0) close(second);
        close(first);
        return -failure;
    }
    ends[0] = first;
    ends[1] = second;
    return 0;
}

int crmm_terminal_resize(int descriptor, int rows, int columns) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    return ioctl(descriptor, TIOCSWINSZ, &size) == 0 ? 0 : -errno;
}

int crmm_terminal_is_cooked(int descriptor) {
    struct termios modes;
    if (tcgetattr(descriptor, &modes) != 0) return -errno;
    return (modes.c_lflag & (tcflag_t)(ICANON | ECHO | ISIG)) == (tcflag_t)(ICANON | ECHO | ISIG);
}

int64_t crmm_raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    limit.rlim_cur = limit.rlim_max;
    // What may not be raised stays, and is said as it is.
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -errno;
    return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}
