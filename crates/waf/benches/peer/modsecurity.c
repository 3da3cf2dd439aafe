/* libmodsecurity as the benchmark's peer (main.rs tells what it is asked and when).
 *
 *   modsecurity RULES REQUESTS
 *
 * Loads RULES, says `name, rules, CPU microseconds of loading`, then answers each line `request count` of standard
 * input with `status, CPU nanoseconds, allocations, instructions` of so many whole transactions of that request; `-`
 * stands for what is not known. All separated by tabs. Allocations are counted in a build with COUNT_ALLOCATIONS only,
 * so that a timed run does not pay for it.
 *
 * A build with VERDICTS says instead what becomes of each request in turn (tests/crs/peer.rs asks): the status (0: let
 * through), the score in the message of the rule that evaluates it (-1: none did), the ids of the rules it logged.
 *
 * REQUESTS holds for each request a line `fields, bytes of body`, the method, the target, name and value of each field,
 * all one a line, and the body with a newline behind it.
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <modsecurity/modsecurity.h>
#include <modsecurity/rules_set.h>
#include <modsecurity/transaction.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef COUNT_ALLOCATIONS
static uint64_t allocations;

/* What the library, and the C++ runtime below its `new`, find instead of the C library's. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
void *malloc(size_t size) { allocations++; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { allocations++; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { allocations++; return __libc_realloc(old, size); }
#endif

struct request {
    char *method, *target;
    unsigned char **field; /* name, value, name, value, ... */
    size_t fields, body_length;
    unsigned char *body;
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "modsecurity: %s: %s\n", what, why);
    exit(1);
}

static char *line(FILE *file) {
    char *text = NULL;
    size_t capacity = 0;
    ssize_t length = getline(&text, &capacity, file);
    if (length <= 0) fail("requests", "the file ends within a request");
    if (text[length - 1] == '\n') text[length - 1] = 0;
    return text;
}

static size_t read_requests(const char *path, struct request **requests) {
    FILE *file = fopen(path, "rb");
    if (!file) fail(path, "cannot be opened");
    size_t count = 0, fields, body;
    *requests = NULL;
    while (fscanf(file, "%zu %zu", &fields, &body) == 2) {
        fgetc(file); /* the newline */
        *requests = realloc(*requests, (count + 1) * sizeof **requests);
        struct request *request = &(*requests)[count++];
        request->method = line(file);
        request->target = line(file);
        request->fields = fields;
        request->field = calloc(2 * fields + 1, sizeof *request->field);
        for (size_t i = 0; i < 2 * fields; i++) request->field[i] = (unsigned char *)line(file);
        request->body_length = body;
        request->body = malloc(body + 1);
        if (fread(request->body, 1, body + 1, file) != body + 1) fail(path, "a body is cut short");
    }
    fclose(file);
    return count;
}

static void no_log(void *data, const void *message) { (void)data, (void)message; }

#ifdef VERDICTS
static long logged_ids[4096], total_score;
static size_t logged;

static void note(void *data, const void *message) {
    const char *id = strstr(message, "[id \"");
    const char *score = strstr(message, "Inbound Anomaly Score Exceeded (Total Score: ");
    (void)data;
    if (id && logged < sizeof logged_ids / sizeof *logged_ids)
        logged_ids[logged++] = strtol(strchr(id, '"') + 1, NULL, 10);
    if (score) total_score = strtol(strchr(score, ':') + 1, NULL, 10);
}
#endif

static int refused(Transaction *transaction) {
    ModSecurityIntervention intervention = {.status = 200};
    if (!msc_intervention(transaction, &intervention)) return 0;
#ifdef VERDICTS
    /* What a disruptive rule logs stands here and nowhere else. */
    if (intervention.disruptive && intervention.log) note(NULL, intervention.log);
#endif
    free(intervention.url);
    free(intervention.log);
    return intervention.disruptive ? intervention.status : 0;
}

/* Phases 1 to 4, as far as they come; the response is an empty page. */
static int inspect(Transaction *transaction, const struct request *request) {
    int status;
    msc_process_connection(transaction, "203.0.113.7", 40000, "198.51.100.1", 443);
    msc_process_uri(transaction, request->target, request->method, "1.1");
    for (size_t i = 0; i < request->fields; i++)
        msc_add_request_header(transaction, request->field[2 * i], request->field[2 * i + 1]);
    msc_process_request_headers(transaction);
    if ((status = refused(transaction))) return status;
    if (request->body_length) msc_append_request_body(transaction, request->body, request->body_length);
    msc_process_request_body(transaction);
    if ((status = refused(transaction))) return status;
    msc_add_response_header(transaction, (const unsigned char *)"Content-Type", (const unsigned char *)"text/html");
    msc_process_response_headers(transaction, 200, "HTTP/1.1");
    if ((status = refused(transaction))) return status;
    msc_process_response_body(transaction);
    return refused(transaction);
}

/* Kept as a function of its own: callgrind is told its name. */
__attribute__((noinline)) int peer_transaction(ModSecurity *engine, RulesSet *rules, const struct request *request) {
    Transaction *transaction = msc_new_transaction(engine, rules, NULL);
    int status = inspect(transaction, request);
    msc_process_logging(transaction);
    msc_transaction_cleanup(transaction);
    return status;
}

static uint64_t cpu_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Instructions of this thread in user space; -1 where the platform does not count them. */
static int instruction_counter(void) {
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof attributes,
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return (int)syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
}

static uint64_t instructions(int counter) {
    uint64_t value = 0;
    return read(counter, &value, sizeof value) == sizeof value ? value : 0;
}

#ifdef VERDICTS
static void say_verdicts(ModSecurity *engine, RulesSet *rules, const struct request *requests, size_t count) {
    msc_set_log_cb(engine, note);
    for (size_t i = 0; i < count; i++) {
        logged = 0;
        total_score = -1;
        printf("%d", peer_transaction(engine, rules, &requests[i]));
        printf("\t%ld", total_score);
        for (size_t k = 0; k < logged; k++) printf("\t%ld", logged_ids[k]);
        printf("\n");
    }
}
#endif

int main(int argc, char **argv) {
    if (argc != 3) fail("usage", "modsecurity RULES REQUESTS");
    struct request *requests;
    size_t known = read_requests(argv[2], &requests), index;
    ModSecurity *engine = msc_init();
    msc_set_log_cb(engine, no_log);
    RulesSet *rules = msc_create_rules_set();
    const char *error = "";
    uint64_t start = cpu_nanoseconds();
    int loaded = msc_rules_add_file(rules, argv[1], &error);
    if (loaded < 0) fail(argv[1], error);
    printf("%s\t%d\t%llu\n", msc_who_am_i(engine), loaded, (unsigned long long)(cpu_nanoseconds() - start) / 1000);
    fflush(stdout);
#ifdef VERDICTS
    say_verdicts(engine, rules, requests, known);
    return 0;
#endif

    int counter = instruction_counter();
    unsigned long count;
    while (scanf("%zu %lu", &index, &count) == 2) {
        if (index >= known) fail("standard input", "there is no such request");
        int status = 0;
#ifdef COUNT_ALLOCATIONS
        uint64_t allocated = allocations;
#endif
        uint64_t before = counter < 0 ? 0 : instructions(counter);
        start = cpu_nanoseconds();
        for (unsigned long i = 0; i < count; i++) status = peer_transaction(engine, rules, &requests[index]);
        uint64_t spent = cpu_nanoseconds() - start;
        printf("%d\t%llu", status, (unsigned long long)spent);
#ifdef COUNT_ALLOCATIONS
        printf("\t%llu", (unsigned long long)(allocations - allocated));
#else
        printf("\t-");
#endif
        if (counter < 0) printf("\t-\n");
        else printf("\t%llu\n", (unsigned long long)(instructions(counter) - before));
        fflush(stdout);
    }
    return 0;
}
