/// The limits that both ends of a wire share. Each refusal names the limit's value.
package enum Limits {
    /// Bytes of a script's body.
    package static let scriptBytesMax = 1 << 20
    /// Arguments of a script, and bytes of each.
    package static let argumentsMax = 128
    package static let argumentBytesMax = 8_192
    /// Environment variables of a script, and bytes of each value.
    package static let environmentMax = 128
    package static let environmentBytesMax = 32_768
    /// Bytes of a script's standard input.
    package static let stdinBytesMax = 256 << 10
    /// Bytes of a path.
    package static let pathBytesMax = 1_024
    /// Seconds that a script may run.
    package static let timeoutSeconds = 1...86_400
    /// Seconds that a script may run unless the job says otherwise.
    package static let timeoutSecondsDefault = 3_600
    /// Seconds from submission until a run that was not sent expires.
    package static let expiresInSeconds = 1...2_592_000
    /// The expiry unless the job says otherwise: seven days.
    package static let expiresInSecondsDefault = 604_800
    /// How far ahead a job may be scheduled: ninety days.
    package static let notBeforeSecondsMax = 7_776_000
    /// Attempts of a run.
    package static let attempts = 1...100
    /// Seconds of the longest wait before an attempt that repeats another: before the second, and before any.
    package static let backoffSeconds = 1...86_400
    package static let backoffSecondsDefault = 30
    package static let maximumBackoffSecondsDefault = 3_600
    /// Dead letters that one request may redrive or discard, and how many without saying the number.
    package static let deadLettersMax = 10_000
    package static let deadLettersUnsaidMax = 100
    /// Bytes of the body of an HTTP request, and of a bulk request.
    package static let bodyBytesMax = 4 << 20
    /// The largest body of an enrolment, which anyone may send.
    package static let enrollmentBodyBytesMax = 64 << 10
    package static let bulkBodyBytesMax = 32 << 20
    /// Jobs of one bulk request.
    package static let bulkJobsMax = 10_000
    /// Jobs that one call may cancel, and how many of them without saying their number.
    package static let cancelledJobsMax = 10_000
    package static let uncountedCancelsMax = 100
    /// Devices of one list of ids.
    package static let deviceIDsMax = 10_000
    /// Items of a page.
    package static let page = 1...500
    package static let pageDefault = 50
    /// Bytes of a name of a tenant, key or device.
    package static let nameBytes = 1...200
    /// Tags of a device and bytes of each; custom fields and bytes of their values.
    package static let tagsMax = 64
    package static let tagBytes = 1...64
    package static let customFieldsMax = 64
    package static let customFieldBytesMax = 512
    /// An organization's weight, and the most that its cap on running runs may be.
    package static let weight = 0.001...1_000
    package static let runningCap = 1...1_000_000
    /// Limits of an organization that are finer than its cap, and what one of them and its rate may be.
    package static let queueLimitsMax = 200
    package static let queueLimit = 1...1_000_000
    package static let queueRate = 0.01...100_000
    package static let queueBurst = 1...100_000
    /// Interactive runs of an organization that go before its standard ones: a minute, and at once.
    package static let interactivePerMinute = 0.6...600_000
    package static let interactiveBurst = 0...100_000
    /// Runs that an organization may have open, and bytes of statements and lists of its open jobs: what may
    /// be set, and what holds unless it is. One job always fits the bytes of an organization without others.
    package static let openRuns = 1...100_000_000
    package static let openRunsDefault = 2_000_000
    package static let openBytes = (4 << 20)...(1 << 40)
    package static let openBytesDefault = 8 << 30
    /// Thresholds of a guard, and for how long a second factor may count as fresh.
    package static let guardDevices = 0...100_000_000
    package static let confirmedDevices = 1...100_000_000
    package static let guardPermissions = 0...256
    package static let stepUpSeconds = 30...86_400
    /// Bytes of a webhook's URL and description, and the types of events that it may name.
    package static let webhookURLBytes = 1...2_048
    package static let webhookTextBytes = 0...200
    package static let webhookEvents = 1...64
    /// Bytes of a secret: fewer could not be told from other output when they are masked in it.
    package static let secretBytes = 8...16_384
    /// Bytes of a secret as it is sealed to a device, with its salt.
    package static let sealedSecretBytesMax = 17_408
    /// Bytes of a secret's name and description.
    package static let secretNameBytes = 1...64
    package static let secretTextBytes = 0...200
    /// Secrets that a script may be given, and values that a job may be signed for: with those of sites that
    /// have their own.
    package static let scriptSecretsMax = 16
    package static let signedSecretsMax = 256
    /// Days for which an organization keeps what has ended.
    package static let retentionDays = 1...3_650
    /// Bytes of the reason of a pause or a drain.
    package static let reasonBytes = 1...500
    /// Bytes of an idempotency key.
    package static let idempotencyKeyBytes = 1...200
    /// Bytes of a job's unique key.
    package static let uniqueKeyBytes = 1...200
    /// Bytes of a job's signed statement: as base64 it fits one message to an agent.
    package static let statementBytesMax = 2_900_000
    /// Bytes of a WebSocket message between agent and gateway.
    package static let frameBytesMax = 4 << 20
    /// Values and names of a message: a hello with as many attempts as it may name has a fourth of them.
    package static let frameValuesMax = 16_384
    /// Levels of a message.
    package static let frameDepthMax = 8
    /// Results of one agent that are under way at a time.
    package static let resultsInFlightMax = 16
    /// Seconds within which an agent says hello, and a gateway welcomes it.
    package static let helloSecondsMax = 10
    package static let welcomeSecondsMax = 10
    /// Values and names of any other body: as many jobs as a bulk request may hold, each with as many
    /// arguments and variables as a script may have, stay below.
    package static let bodyValuesMax = 5_000_000
    /// Bytes kept of each of a run's two outputs: the first and the last so many.
    package static let outputHeadBytes = 128 << 10
    package static let outputTailBytes = 128 << 10
    /// Unsettled runs of one device that leave the queue at a time.
    package static let runsPerDevice = 4
    /// Results and held attempts that a hello names; the rest follows after the welcome.
    package static let helloAttemptsMax = 256
    /// Seconds between TERM and KILL.
    package static let killGraceSeconds = 3
    /// Bytes of an enrolment token's text.
    package static let tokenBytesMax = 4_096
    /// Bytes of a certificate signing request.
    package static let requestBytesMax = 16_384
}

/// Names of environment variables that a job must not set: they change what a script's interpreter, or a
/// program that it calls, runs or loads; or they are the agent's own to say.
package enum RefusedEnvironment {
    private static let names: Set<String> = [
        // Said by the agent.
        "HOME", "USER", "LOGNAME", "TMPDIR", "PATH",
        // Shells.
        "ENV", "IFS", "SHELLOPTS", "BASHOPTS", "PS4", "PROMPT_COMMAND", "CDPATH", "GLOBIGNORE", "ZDOTDIR",
        "FPATH",
        // The C library and what it loads.
        "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LOCPATH", "MALLOC_TRACE", "NLSPATH",
        "RESOLV_HOST_CONF", "RES_OPTIONS", "TERMINFO", "TERMINFO_DIRS",
        // Other languages.
        "NODE_OPTIONS", "NODE_PATH", "NODE_REPL_EXTERNAL_MODULE", "CLASSPATH", "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "PHPRC", "PHP_INI_SCAN_DIR", "AWKPATH", "AWKLIBPATH",
        "TCLLIBPATH", "DOTNET_STARTUP_HOOKS",
        // Programs that call what they are told to.
        "EDITOR", "VISUAL", "PAGER", "MANPAGER", "LESSOPEN", "LESSCLOSE", "SSH_ASKPASS", "SUDO_ASKPASS",
        "CURL_HOME", "WGETRC", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME", "XDG_DATA_DIRS",
    ]
    private static let prefixes = [
        "LD_", "PYTHON", "PERL", "RUBY", "GEM_", "BUNDLE_", "LUA_", "CORECLR_", "OPENSSL_", "GIT_", "BASH_",
        "CLOUDRMM_",
    ]

    /// Why a name is refused; `nil` if it may be set.
    package static func refusal(of name: String) -> String? {
        guard let first = name.utf8.first, first == UInt8(ascii: "_") || isLetter(first),
            name.utf8.allSatisfy({ $0 == UInt8(ascii: "_") || isLetter($0) || isDigit($0) }),
            name.utf8.count <= 128
        else {
            return "must be letters, digits and underscores, 1 to 128 of them, and not begin with a digit"
        }
        if names.contains(name) || prefixes.contains(where: { name.hasPrefix($0) }) {
            return "must not be set, since it changes what an interpreter runs or is the agent's to say"
        }
        return nil
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }
}
