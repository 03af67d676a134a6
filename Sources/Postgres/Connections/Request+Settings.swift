/// The settings that the driver itself makes; all of them are the same few statements, prepared once.
extension Request {
    /// The first words on a connection: the time limits of the session. The server looks once a second
    /// whether its client is still there, so that what a dropped connection was doing ends soon.
    static func setup(_ configuration: PostgresConfiguration) -> Request {
        let limit = "\(configuration.statementTimeout.milliseconds)"
        let plans = configuration.genericPlans ? "force_generic_plan" : "auto"
        let statement = try? Statement(  // it is far below every limit
            """
            SELECT set_config('statement_timeout', \(limit), false),
                set_config('idle_in_transaction_session_timeout', \(limit), false),
                set_config('plan_cache_mode', \(plans), false),
                set_config('client_connection_check_interval', '1000', false)
            """)
        return Request(
            .setup, [statement].compactMap(\.self), scope: .none,
            deadline: .now + configuration.connectTimeout)
    }

    /// What is in force while its statements run.
    var settings: Settings {
        Settings(scope: scope, actor: actor, left: ContinuousClock.now.duration(to: deadline))
    }
}

/// The scope, the actor and the time limit of a request, as the server is told them: until the end of the
/// transaction.
struct Settings: Equatable {
    let scope: String
    let actor: String
    /// What is left of the time limit, in milliseconds; from 2 s on in whole seconds, rounded up, so that
    /// those who share a commit have the same. (The caller is told to the millisecond, by the clock here.)
    let milliseconds: Int64

    init(scope: Scope, actor: Actor?, left: Duration) {
        self.scope = scope.setting
        self.actor = actor?.setting ?? ""
        let left = max(left.milliseconds, 1)
        milliseconds = left < 2_000 ? left : (left + 999) / 1_000 * 1_000
    }

    /// Sets the scope, and the limit and the actor where others are in force.
    func statement(besides limit: Int64?, actor inForce: String) -> Statement? {
        if actor != inForce {
            return try? Statement(  // the sizes were checked
                """
                SELECT set_config('crmm.scope', \(scope), true), set_config('crmm.actor', \(actor), true),
                    set_config('statement_timeout', \("\(milliseconds)"), true)
                """)
        }
        if milliseconds == limit {
            return try? Statement("SELECT set_config('crmm.scope', \(scope), true)")  // its size was checked
        }
        return try? Statement(  // the scope's size was checked, and the rest is small
            """
            SELECT set_config('crmm.scope', \(scope), true),
                set_config('statement_timeout', \("\(milliseconds)"), true)
            """)
    }
}
