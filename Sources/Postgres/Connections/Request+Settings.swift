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

    /// Sets the scope, and what is left of the time limit, until the end of the transaction.
    var scopeStatement: Statement? {
        let left = max(ContinuousClock.now.duration(to: deadline).milliseconds, 1)
        return try? Statement(  // the scope's size was checked, and the rest is small
            """
            SELECT set_config('crmm.scope', \(scope.setting), true),
                set_config('statement_timeout', \("\(left)"), true)
            """)
    }
}
