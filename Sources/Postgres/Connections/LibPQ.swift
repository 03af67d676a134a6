import CPostgres
import Glibc

/// The one owner of a `PGconn`: made by `PQconnectStart`, freed with the object; no pointer leaves this file.
///
/// Not thread-safe, as libpq is not for one connection (manual, 34.20): its connection's lock keeps it for
/// one thread at a time.
@safe final class LibPQ {
    /// What a connection attempt waits for.
    enum Progress {
        case wantsRead, wantsWrite, done, failed
    }

    /// What the server answered next.
    enum Answer {
        /// One statement's result.
        case result(PostgresResult)
        /// One statement's error; after a fatal one the connection is gone.
        case failure(PostgresError, isFatal: Bool)
        /// Skipped because a statement before it in the same transaction failed.
        case skipped
        /// The transaction ended.
        case sync
        /// Nothing more for this statement.
        case end
        /// Something that no request here asks for.
        case unexpected(String)
    }

    private let connection: OpaquePointer

    /// Starts to connect; nil if there is no memory for it. libpq expands the first `dbname` as a URL, and
    /// whatever comes later wins.
    init?(_ configuration: PostgresConfiguration) {
        var pairs = [
            ("dbname", configuration.url), ("client_encoding", "UTF8"),
            ("fallback_application_name", configuration.applicationName),
        ]
        if let database = configuration.database { pairs.append(("dbname", database)) }
        if let user = configuration.user { pairs.append(("user", user)) }
        let started = unsafe Self.withCStrings(pairs.map(\.0)) { keywords in
            unsafe Self.withCStrings(pairs.map(\.1)) { values in
                unsafe PQconnectStartParams(keywords, values, 1)
            }
        }
        guard let connection = unsafe started else { return nil }
        unsafe self.connection = unsafe connection
        _ = unsafe PQsetNoticeProcessor(connection, { _, _ in }, nil)
    }

    deinit { unsafe PQfinish(connection) }

    /// Calls `body` with a list of C strings that ends with a null pointer.
    private static func withCStrings<Result>(
        _ strings: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
    ) -> Result {
        let copies = unsafe strings.map { unsafe strdup($0) }
        defer { for index in unsafe copies.indices { unsafe free(copies[index]) } }
        let list = unsafe copies.map { unsafe UnsafePointer($0) } + [nil]
        return unsafe list.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
    }

    /// The options of a URL as libpq reads it, defaults left out; nil if it cannot. Its own message may
    /// repeat the URL with the password, so it is dropped.
    static func options(url: String) -> [String: String]? {
        guard let options = unsafe PQconninfoParse(url, nil) else { return nil }
        defer { unsafe PQconninfoFree(options) }
        var found: [String: String] = [:]
        var next = unsafe options
        while let keyword = unsafe next.pointee.keyword {
            if let value = unsafe next.pointee.val {
                unsafe found[String(cString: keyword)] = unsafe String(cString: value)
            }
            unsafe next += 1
        }
        return found
    }

    /// What ends the statement that runs on this connection now; nil if there is no memory for it.
    func makeCancel() -> PostgresCancel? { unsafe PostgresCancel(PQgetCancel(connection)) }

    // MARK: State

    var descriptor: Int32 { unsafe PQsocket(connection) }
    var isBroken: Bool { unsafe PQstatus(connection) == CONNECTION_BAD }
    /// No statement is under way and no transaction open.
    var isIdle: Bool { unsafe PQtransactionStatus(connection) == PQTRANS_IDLE }
    /// Whether the next answer has not arrived whole, so that asking for it would block.
    var isBusy: Bool { unsafe PQisBusy(connection) != 0 }
    /// libpq's word on what failed last.
    var message: String {
        let text = unsafe String(cString: PQerrorMessage(connection))
        return text.split(separator: "\n").joined(separator: "; ")
    }

    /// Goes on connecting; in the end the connection is in pipeline mode and never blocks.
    func connect() -> Progress {
        let status = unsafe PQconnectPoll(connection)
        switch status {
        case PGRES_POLLING_READING: return .wantsRead
        case PGRES_POLLING_WRITING: return .wantsWrite
        case PGRES_POLLING_OK:
            let isReady = unsafe PQsetnonblocking(connection, 1) == 0 && PQenterPipelineMode(connection) == 1
            return isReady ? .done : .failed
        default: return .failed
        }
    }

    // MARK: Sending; false means that the connection is lost

    func prepare(_ key: StatementKey, name: String) -> Bool {
        let types = key.types.map(\.rawValue)
        return unsafe PQsendPrepare(connection, name, key.text, Int32(types.count), types) == 1
    }

    /// Sends a prepared statement, or one that is parsed for this once if there is no name.
    func send(_ statement: Statement, name: String?) -> Bool {
        let count = Int32(statement.lengths.count)
        let formats = [Int32](repeating: 1, count: statement.lengths.count)
        return unsafe statement.bytes.withUnsafeBytes { bytes in
            var next = unsafe bytes.baseAddress!.assumingMemoryBound(to: CChar.self)
            let values: [UnsafePointer<CChar>?] = unsafe statement.lengths.map { length in
                guard length >= 0 else { return nil }
                defer { unsafe next += Int(length) }
                return unsafe next
            }
            if let name {
                return unsafe PQsendQueryPrepared(
                    connection, name, count, values, statement.lengths, formats, 1) == 1
            }
            let types = statement.key.types.map(\.rawValue)
            return unsafe PQsendQueryParams(
                connection, statement.key.text, count, types, values, statement.lengths, formats, 1) == 1
        }
    }

    /// Ends the transaction of what was sent since the last one. In libpq 15 this also flushes.
    func sync() -> Bool { unsafe PQpipelineSync(connection) == 1 }

    /// Leaves pipeline mode, in which a message has one statement only, and sends a script of several.
    /// Nothing may be under way.
    func send(script: String) -> Bool {
        unsafe PQexitPipelineMode(connection) == 1 && PQsendQuery(connection, script) == 1
    }

    /// Goes back to pipeline mode after a script.
    func endScript() -> Bool { unsafe PQenterPipelineMode(connection) == 1 }

    /// Writes what the socket takes; whether some is left, or nil if the connection is lost.
    func flush() -> Bool? {
        switch unsafe PQflush(connection) {
        case 0: false
        case 1: true
        default: nil
        }
    }

    // MARK: Receiving

    /// Reads what has arrived; false means that the connection is lost.
    func receive() -> Bool { unsafe PQconsumeInput(connection) == 1 }

    /// Takes the next answer; ``isBusy`` must be false.
    func next(keepingRows: Bool) -> Answer {
        guard let result = unsafe PQgetResult(connection) else { return .end }
        defer { unsafe PQclear(result) }
        let status = unsafe PQresultStatus(result)
        switch status {
        case PGRES_TUPLES_OK, PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            return .result(unsafe Self.copy(result, keepingRows: keepingRows))
        case PGRES_FATAL_ERROR:
            let severity = unsafe Self.field("V", of: result)
            return .failure(unsafe Self.error(result), isFatal: severity == "FATAL" || severity == "PANIC")
        case PGRES_PIPELINE_ABORTED: return .skipped
        case PGRES_PIPELINE_SYNC: return .sync
        default: return .unexpected(unsafe String(cString: PQresStatus(status)))
        }
    }

    /// A field of an error; `PG_DIAG_…` are characters (manual, PQresultErrorField), 'C' the SQLSTATE.
    private static func field(_ code: Unicode.Scalar, of result: OpaquePointer) -> String? {
        unsafe PQresultErrorField(result, Int32(code.value)).map { unsafe String(cString: $0) }
    }

    private static func error(_ result: OpaquePointer) -> PostgresError {
        let state = unsafe field("C", of: result)
        let message = unsafe field("M", of: result) ?? String(cString: PQresultErrorMessage(result))
        var error = PostgresError(state.map(Self.code) ?? .connection, message, sqlState: state)
        error.constraint = unsafe field("n", of: result)
        error.table = unsafe field("t", of: result)
        error.column = unsafe field("c", of: result)
        return error
    }

    /// 57014 is a cancelled statement, and only its time limit cancels one here.
    private static func code(sqlState: String) -> PostgresError.Code {
        sqlState == "57014" ? .timeout : .server(sqlState)
    }

    private static func copy(_ result: OpaquePointer, keepingRows: Bool) -> PostgresResult {
        let tag = unsafe String(cString: PQcmdStatus(result))
        let affected = Int(unsafe String(cString: PQcmdTuples(result))) ?? 0
        let rowCount = keepingRows ? Int(unsafe PQntuples(result)) : 0
        guard rowCount > 0 else { return PostgresResult(rows: [], affected: affected, tag: tag) }
        let columns = (0..<(unsafe PQnfields(result))).map { column in
            PostgresTable.Column(
                name: unsafe String(cString: PQfname(result, column)),
                type: PostgresType(rawValue: unsafe PQftype(result, column)))
        }
        var bytes: [UInt8] = []
        var places: [Range<Int>?] = []
        places.reserveCapacity(rowCount * columns.count)
        for row in 0..<Int32(rowCount) {
            for column in 0..<Int32(columns.count) {
                guard unsafe PQgetisnull(result, row, column) == 0 else {
                    places.append(nil)
                    continue
                }
                let value = unsafe UnsafeRawBufferPointer(
                    start: PQgetvalue(result, row, column), count: Int(PQgetlength(result, row, column)))
                places.append(bytes.count..<bytes.count + value.count)
                unsafe bytes.append(contentsOf: value)
            }
        }
        let table = PostgresTable(columns: columns, places: places, bytes: bytes)
        return PostgresResult(
            rows: (0..<rowCount).map { PostgresRow(table: table, index: $0) }, affected: affected, tag: tag)
    }
}

/// The owner of a `PGcancel`: asks the server to end what one connection does, over a connection of its own.
///
/// It outlives its connection, and is of no use to anybody else: the server compares the key. libpq 15 sends
/// it in clear whatever `sslmode` says, so it is sent only for a connection that is given up. Sendable, for
/// the manual says that `PQcancel` is thread-safe and the object is only read.
@safe final class PostgresCancel: @unchecked Sendable {
    private let cancel: OpaquePointer

    fileprivate init?(_ cancel: OpaquePointer?) {
        guard let cancel = unsafe cancel else { return nil }
        unsafe self.cancel = unsafe cancel
    }

    deinit { unsafe PQfreeCancel(cancel) }

    /// Sends the request and waits until the server has taken it, as long as the system waits for a
    /// connection; false if it was not reached.
    func send() -> Bool {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            unsafe PQcancel(cancel, buffer.baseAddress, Int32(buffer.count)) == 1
        }
    }
}
