import Domain
import Ledger
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Postgres
import Redis
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine
@testable import Gateway
@testable import Streams

/// The builder's tenant, not the one on the wire.
typealias Tenant = TestSupport.Tenant

/// A gateway that serves on a port of this machine, with an empty database and an empty partition behind it.
struct Bench: Sendable {
    let world: World
    let queue: Queue
    let front: QueueFront
    let gateway: Gateway
    let port: Int
    let rebuilder: Rebuilder
    private let place: TestQueue

    static let logger = Logger.quiet

    /// Runs a test against a gateway and stops it afterwards.
    static func run(
        on server: RedisConfiguration? = nil, partitions: Int = 1, connectionsMax: Int = .max,
        _ body: (Bench) async throws -> Void
    ) async throws {
        try await World.here().clear()
        let server = try server ?? TestQueue.configuration()
        try await TestQueue.with(on: server, of: partitions) {
            try await serve($0, on: server, connectionsMax: connectionsMax, body)
        }
    }

    private static func serve(
        _ place: TestQueue, on server: RedisConfiguration, connectionsMax: Int,
        _ body: (Bench) async throws -> Void
    ) async throws {
        let (world, queue) = (try World.here(), place.queue)
        let inbox = RedisBlockingConnection(configuration: server, logger: logger)
        let keys = queue.keys
        let queues = (0..<keys.count).map { partition in
            queue.beside(
                Keyspace(
                    prefix: keys.prefix, partition: partition, of: keys.count,
                    librarySuffix: keys.librarySuffix))
        }
        let front = QueueFront(queues: queues, logger: logger, settling: .zero)
        let rebuilder = Rebuilder(
            ledger: world.worker, front: front, connection: place.connection, logger: logger)
        try #require(try await rebuilder.checkOnce())
        var configuration = GatewayConfiguration(host: "127.0.0.1", port: 0)
        configuration.connectionsMax = connectionsMax
        let gateway = Gateway(
            configuration: configuration,
            deployment: Identities.shared.deployment, tls: { Identities.shared.server },
            ledger: world.gateway,
            front: front, inbox: inbox, logger: logger)
        let (bound, tell) = AsyncStream.makeStream(of: Int.self)
        let serving = Task { try await gateway.run { tell.yield($0) } }
        var port: Int?
        for await number in bound {
            port = number
            break
        }
        let bench = Bench(
            world: world, queue: queue, front: front, gateway: gateway, port: try #require(port),
            rebuilder: rebuilder, place: place)
        let outcome: (any Error)?
        do {
            try await body(bench)
            outcome = nil
        } catch {
            outcome = error
        }
        serving.cancel()
        _ = await serving.result
        await inbox.close()
        if let outcome { throw outcome }
    }

    /// Loses everything that Redis holds for this bench.
    func wipe() async throws { try await place.wipe() }

    /// Enrols every device of a tenant and gives each a certificate.
    func enroll(_ tenant: Tenant) async throws -> [DeviceID: TLSContext] {
        var contexts: [DeviceID: TLSContext] = [:]
        for device in tenant.all {
            let made = try Identities.shared.device(device, of: tenant.organization)
            try await keep(made.certificate, device, tenant)
            contexts[device] = try context(made)
        }
        return contexts
    }

    /// Notes a certificate as its device's.
    func keep(_ certificate: Certificate, _ device: DeviceID, _ tenant: Tenant) async throws {
        try await world.owner.pipeline(
            scope: .none,
            [
                """
                UPDATE devices SET key_hash = \(PostgresData(certificate.publicKeyHash)) WHERE id = \(device)
                """,
                """
                INSERT INTO certificates (organization_id, device_id, serial, key_hash, not_after)
                VALUES (\(tenant.organization), \(device), \(certificate.serial),
                        \(PostgresData(certificate.publicKeyHash)), \(Instant(seconds: certificate.notAfter)))
                """,
            ])
    }

    /// What a device connects with.
    func context(_ made: (certificate: Certificate, key: P256Key)) throws -> TLSContext {
        try .client(
            trustedCA: Identities.shared.serverCA.certificate.pem, certificatePEM: made.certificate.pem,
            keyPEM: made.key.pem)
    }

    /// Marks queued runs for this gateway and puts them into its inbox, as a dispatcher does.
    func dispatch(_ runs: [QueuedRun]) async throws -> [MarkedRun] {
        let marked = try await mark(runs)
        let letter = InboxLetter.dispatch(
            marked.map {
                InboxLetter.Item(
                    organization: $0.organization, job: $0.job, run: $0.run, device: $0.device,
                    attempt: $0.attempt, token: $0.token)
            })
        _ = try await queue.deliver([Letter(gateway: gateway.id, payload: letter.encoded)])
        return marked
    }

    /// Marks queued runs and loses their letter.
    func mark(_ runs: [QueuedRun]) async throws -> [MarkedRun] {
        let marked = try await world.mark(runs, gateway: gateway.id, epoch: front.epoch().id)
        try #require(marked.count == runs.count)
        return marked
    }

    /// Asks until a condition holds.
    func until(looks: Int = 5_000, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<looks where try await condition() { return }
        throw NeverCame()
    }

    /// Asks until the gateway has counted so many; each look is a round trip to the server.
    func counted(_ name: String, _ count: Int) async throws {
        try await until {
            _ = try await world.count("SELECT 1")
            return gateway.counters.snapshot[name] == count
        }
    }

    struct NeverCame: Error {}
}

/// A device's end of a session; used by one test.
final class TestAgent {
    private let channel: any Channel
    private var events: AsyncStream<Event>.AsyncIterator

    enum Event: Sendable, Equatable {
        /// The gateway agreed to speak WebSocket.
        case opened
        case frame(GatewayFrame)
        case closed(UInt16)
        /// The gateway answered with this HTTP status instead.
        case refused(UInt)
    }

    /// Connects, and says hello where there is one to say.
    static func connect(
        _ bench: Bench, _ tls: TLSContext, hello: Hello? = .example(), path: String = "/agent/connect",
        subprotocol: String = "cloudrmm.agent.v1", features: Features = []
    ) async throws -> TestAgent {
        let (events, post) = AsyncStream.makeStream(of: Event.self)
        let upgrader = NIOWebSocketClientUpgrader(
            maxFrameSize: Limits.frameBytesMax,
            upgradePipelineHandler: { channel, head in
                channel.eventLoop.makeCompletedFuture {
                    #expect(Features(header: head.headers[Features.header]) == features)
                    try channel.pipeline.syncOperations.addHandler(Receiver(post: post))
                }
            })
        let upgrade: NIOHTTPClientUpgradeSendableConfiguration = (
            upgraders: [upgrader],
            completionHandler: { $0.pipeline.syncOperations.removeHandler(name: "asker", promise: nil) }
        )
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(TLSHandler(context: tls, serverName: "127.0.0.1"))
                    try pipeline.addHTTPClientHandlers(withClientUpgrade: upgrade)
                    try pipeline.addHandler(
                        Asker(path: path, subprotocol: subprotocol, features: features, post: post),
                        name: "asker")
                }
            }
            .connect(host: "127.0.0.1", port: bench.port).get()
        channel.closeFuture.whenComplete { _ in post.finish() }
        let agent = TestAgent(channel: channel, events: events.makeAsyncIterator())
        if let hello {
            try #require(await agent.next() == .opened)
            try await agent.send(.hello(hello))
        }
        return agent
    }

    private init(channel: any Channel, events: AsyncStream<Event>.AsyncIterator) {
        self.channel = channel
        self.events = events
    }

    /// What comes next; `nil` when the connection has ended.
    func next() async -> Event? { await events.next(isolation: #isolation) }

    /// The welcome that comes next.
    func welcome() async throws -> Welcome {
        guard case .frame(.welcome(let welcome))? = await next() else { throw NoWelcome() }
        return welcome
    }

    /// The attempts of the dispatches that come next.
    func dispatches(_ count: Int) async throws -> [AttemptName] {
        var names: [AttemptName] = []
        while names.count < count {
            guard case .frame(.dispatch(let dispatch))? = await next() else { throw NoWelcome() }
            names.append(dispatch.name)
        }
        return names
    }

    func send(_ frame: AgentFrame) async throws {
        let data = ByteBuffer(bytes: frame.encoded)
        try await channel.writeAndFlush(
            WebSocketFrame(fin: true, opcode: .text, maskKey: .random(), data: data))
    }

    /// Says that it goes, as an agent does that is stopped.
    func takeLeave() async throws {
        var data = channel.allocator.buffer(capacity: 2)
        data.write(webSocketErrorCode: .goingAway)
        try await channel.writeAndFlush(
            WebSocketFrame(fin: true, opcode: .connectionClose, maskKey: .random(), data: data))
    }

    /// Goes without a word.
    func leave() async throws { try await channel.close() }

    struct NoWelcome: Error {}
}

/// Asks for the upgrade as soon as there is a connection.
private final class Asker: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let path: String
    private let subprotocol: String
    private let features: Features
    private let post: AsyncStream<TestAgent.Event>.Continuation

    init(
        path: String, subprotocol: String, features: Features,
        post: AsyncStream<TestAgent.Event>.Continuation
    ) {
        (self.path, self.subprotocol, self.features, self.post) = (path, subprotocol, features, post)
    }

    func channelActive(context: ChannelHandlerContext) {
        var headers: HTTPHeaders = ["Host": "127.0.0.1", "Sec-WebSocket-Protocol": subprotocol]
        // Words of a later version are overlooked.
        if !features.isEmpty { headers.add(name: Features.header, value: "later, \(features.header),x") }
        let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if case .head(let head) = unwrapInboundIn(data) { post.yield(.refused(head.status.code)) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// Hands on what the gateway says.
private final class Receiver: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame

    private let post: AsyncStream<TestAgent.Event>.Continuation

    init(post: AsyncStream<TestAgent.Event>.Continuation) { self.post = post }

    func handlerAdded(context: ChannelHandlerContext) { post.yield(.opened) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var frame = unwrapInboundIn(data)
        switch frame.opcode {
        case .text:
            do {
                post.yield(.frame(try GatewayFrame.decode(Array(buffer: frame.data))))
            } catch {
                context.close(promise: nil)
            }
        case .connectionClose:
            post.yield(
                .closed(frame.data.readWebSocketErrorCode().map { UInt16(webSocketErrorCode: $0) } ?? 0))
        default: break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

extension QueueFront {
    /// The epoch of the only partition.
    func epoch() async throws -> Epoch { try await parts[0].epoch() }
}
