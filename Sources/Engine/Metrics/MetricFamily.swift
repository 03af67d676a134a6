/// One metric of a process: what it is called, what it counts, and by which labels.
///
/// The same list stands in `Metrics.md`; a test compares the two with what a process shows.
package struct MetricFamily: Sendable, Equatable {
    /// How values of a family behave.
    package enum Kind: String, Sendable {
        /// Rises until the process ends.
        case counter
        /// Rises and falls.
        case gauge
        /// Counts of values up to bounds, with their sum.
        case histogram
    }

    /// The name as Prometheus has it; the unit is its end.
    package let name: String
    package let kind: Kind
    package let unit: String
    /// The labels of its samples, in order.
    package let labels: [String]
    /// One sentence.
    package let help: String

    init(_ name: String, _ kind: Kind, _ unit: String, _ labels: [String] = [], _ help: String) {
        (self.name, self.kind, self.unit, self.labels, self.help) = (name, kind, unit, labels, help)
    }

    /// Claims by organization.
    package static let claims = MetricFamily(
        "cloudrmm_claims_total", .counter, "runs", ["organization"], "Runs that dispatchers claimed.")
    /// Marks by organization.
    package static let marks = MetricFamily(
        "cloudrmm_marks_total", .counter, "runs", ["organization"], "Runs that were marked as dispatched.")
    /// Ends of runs by organization and outcome.
    package static let settlements = MetricFamily(
        "cloudrmm_settlements_total", .counter, "runs", ["organization", "outcome"],
        "Runs that ended, by outcome; declared: without the device's word.")
    /// Attempts that were followed by another.
    package static let retries = MetricFamily(
        "cloudrmm_retries_total", .counter, "attempts", ["organization"],
        "Attempts that ended and were followed by another.")
    /// Results that ended nothing.
    package static let results = MetricFamily(
        "cloudrmm_results_total", .counter, "results", ["organization", "kind"],
        "Results of devices that ended nothing, by kind: amended, duplicate, late, foreign.")
    /// Times from queued to marked.
    package static let waits = MetricFamily(
        "cloudrmm_wait_seconds", .histogram, "seconds", ["organization"],
        "How long runs were queued before they were marked.")
    /// Times from start to end on devices.
    package static let runTimes = MetricFamily(
        "cloudrmm_run_seconds", .histogram, "seconds", ["organization"],
        "How long runs took on their devices, as these say.")
    /// How organizations stand, as each worker sees it.
    package static let runs = MetricFamily(
        "cloudrmm_queue_runs", .gauge, "runs", ["organization", "state"],
        "Runs that are queued, waiting for their device, or running; from 10000 queued on by the counter of "
            + "the organization’s open runs. Under `other`: what Redis holds of the rest.")
    /// How long the oldest run of each has waited.
    package static let oldest = MetricFamily(
        "cloudrmm_queue_oldest_seconds", .gauge, "seconds", ["organization"],
        "The age of the oldest queued run.")
    /// What refill brought.
    package static let refills = MetricFamily(
        "cloudrmm_refills_total", .counter, "runs", [], "Runs that refill brought to the queue.")
    /// Data sets that were lost and built anew.
    package static let rebuilds = MetricFamily(
        "cloudrmm_rebuilds_total", .counter, "data sets", [],
        "Data sets of the queue that were built anew from PostgreSQL.")
    /// What the fast path lost and the scan found.
    package static let stragglers = MetricFamily(
        "cloudrmm_stragglers_total", .counter, "queues", [],
        "Queues that were marked because a run had been queued for two seconds.")
    /// Leases that their owners lost.
    package static let leaseLosses = MetricFamily(
        "cloudrmm_lease_losses_total", .counter, "leases", ["cause"],
        "Leases that ended otherwise than by their owner; lapsed: their time passed, unacknowledged: gone "
            + "when their owner acknowledged.")
    /// What comparisons put right.
    package static let corrections = MetricFamily(
        "cloudrmm_queue_corrections_total", .counter, "corrections", ["what"],
        "What comparisons put right: memberships of running runs, counters of queues, entitlements, uses.")
    /// Marks that came to nothing.
    package static let undelivered = MetricFamily(
        "cloudrmm_undelivered_total", .counter, "runs", [],
        "Marked runs that reached no gateway and were queued again.")
    /// Attempts of tasks.
    package static let taskAttempts = MetricFamily(
        "cloudrmm_task_attempts_total", .counter, "attempts", ["kind"],
        "Attempts of tasks that this worker began.")
    /// Tasks that run.
    package static let tasksRunning = MetricFamily(
        "cloudrmm_tasks_running", .gauge, "tasks", ["kind"], "Tasks whose handlers run in this worker.")
    /// Ends of attempts of tasks.
    package static let taskEnds = MetricFamily(
        "cloudrmm_task_ends_total", .counter, "attempts", ["kind", "end"],
        "Attempts of tasks that are over: the task's outcome, or repeated, givenBack at a stop, late.")
    /// Times from queued to begun.
    package static let taskWaits = MetricFamily(
        "cloudrmm_task_wait_seconds", .histogram, "seconds", ["kind"],
        "How long tasks were queued before they were begun.")
    /// Times of handlers.
    package static let taskTimes = MetricFamily(
        "cloudrmm_task_seconds", .histogram, "seconds", ["kind"], "How long attempts of tasks took.")
    /// Requests to the API.
    package static let requests = MetricFamily(
        "cloudrmm_api_requests_total", .counter, "requests", [], "Requests that the API answered.")
    /// Refusals of the API by reason.
    package static let refusals = MetricFamily(
        "cloudrmm_api_refusals_total", .counter, "requests", ["reason"],
        "Requests that the API refused, by the code of the problem.")
    /// Jobs that submissions were refused for.
    package static let jobRefusals = MetricFamily(
        "cloudrmm_job_refusals_total", .counter, "jobs", ["reason"],
        "Jobs that were refused at submission, each of a bulk by itself, by the code of the problem.")
    /// Jobs that quotas refused.
    package static let quotaRefusals = MetricFamily(
        "cloudrmm_quota_refusals_total", .counter, "jobs", ["organization", "quota"],
        "Jobs that would have taken their organization over its quota of openRuns or openBytes.")
    /// All that the API counts.
    package static let apiEvents = MetricFamily(
        "cloudrmm_api_events_total", .counter, "events", ["event"],
        "What the API did, by event; refused.CODE.")
    /// Agents that are connected.
    package static let sessions = MetricFamily(
        "cloudrmm_gateway_sessions", .gauge, "sessions", [], "Agents' sessions that this gateway holds.")
    /// All that the gateway counts.
    package static let gatewayEvents = MetricFamily(
        "cloudrmm_gateway_events_total", .counter, "events", ["event"], "What the gateway did, by event.")
    /// Connects and reconnects to Redis.
    package static let redisConnections = MetricFamily(
        "cloudrmm_redis_connections_total", .counter, "connections", [],
        "Connections to Redis that were established; more than at the start are reconnects.")
    /// Losses of Redis.
    package static let redisFailures = MetricFamily(
        "cloudrmm_redis_failures_total", .counter, "connections", [],
        "Connections to Redis that were lost or could not be established.")
    /// Connects and reconnects to PostgreSQL.
    package static let postgresConnections = MetricFamily(
        "cloudrmm_postgres_connections_total", .counter, "connections", [],
        "Connections to PostgreSQL that were established; more than at the start are reconnects.")
    /// Losses of PostgreSQL.
    package static let postgresFailures = MetricFamily(
        "cloudrmm_postgres_failures_total", .counter, "connections", [],
        "Connections to PostgreSQL that were lost or could not be established.")
    /// Waits for a connection of a pool.
    package static let postgresWaits = MetricFamily(
        "cloudrmm_postgres_pool_waits_total", .counter, "transactions", [],
        "Transactions that waited for a connection of the pool.")
    /// CPU time.
    package static let cpu = MetricFamily(
        "process_cpu_seconds_total", .counter, "seconds", [], "CPU time of this process.")
    /// Resident memory.
    package static let memory = MetricFamily(
        "process_resident_memory_bytes", .gauge, "bytes", [], "Resident memory of this process.")
    /// When the process began.
    package static let started = MetricFamily(
        "process_start_time_seconds", .gauge, "seconds", [], "When this process began, since 1970.")

    /// Every family, in the order in which they are shown.
    package static let all: [MetricFamily] = [
        claims, marks, settlements, retries, results, waits, runTimes, runs, oldest, refills, rebuilds,
        stragglers, leaseLosses, corrections, undelivered, taskAttempts, tasksRunning,
        taskEnds, taskWaits, taskTimes, requests, refusals, jobRefusals, quotaRefusals, apiEvents, sessions,
        gatewayEvents, redisConnections, redisFailures, postgresConnections, postgresFailures, postgresWaits,
        cpu, memory, started,
    ]
}
