import Redis

@testable import Streams

/// The shipped function library on a clock that the simulation holds, with limits that a small world reaches.
///
/// Everything but these substitutions is the text that production loads. A text that is to be replaced and is
/// not found, or is found more often, is an error: a simulation on half of the product proves nothing.
enum VirtualLibrary {
    /// What the library's name carries.
    static func suffix(_ mistake: Mistake? = nil) -> String { "_simulated" + (mistake?.rawValue ?? "") }

    /// A text that stands in the library otherwise than this expects.
    struct Unexpected: Error, CustomStringConvertible {
        let text: String
        let count: Int
        var description: String { "the library has this text \(count) times: \(text)" }
    }

    static func source(_ mistake: Mistake? = nil) throws -> RedisFunctionLibrary {
        let shipped = Library.source(suffix: suffix(mistake))
        var source = shipped.source
        try replace("local LIBRARY = '\(shipped.name)'\n", by: { $0 + clock }, in: &source)
        try replace("redis.call('TIME')", by: { _ in "simulatedClock()" }, in: &source, times: 2)
        try replace(
            "local tag = string.sub(epochKey, 1, -6)",
            by: { $0 + "\n            simulatedKey = 'clock:' .. tag" }, in: &source)
        try replace("redis.call('XADD', key, '*', 'e'", by: { _ in "simulatedAppend(key, 'e'" }, in: &source)
        // No key has a foreign type here, and twenty looks for that are a fifth of a call.
        try replace("return refusal(call, uses) or body(", by: { _ in "return body(" }, in: &source)
        try replace("local BUDGET = 100000", by: { _ in "local BUDGET = \(budget)" }, in: &source)
        try replace(
            "local WINDOW_LEAST, WINDOW_MOST = 8, 1024",
            by: { _ in "local WINDOW_LEAST, WINDOW_MOST = \(windowLeast), 1024" }, in: &source)
        try replace("local TURN = 8 ", by: { _ in "local TURN = \(turn) " }, in: &source)
        try replace("local SHARERS = 16 ", by: { _ in "local SHARERS = 2 " }, in: &source)
        if let mistake {
            let (right, wrong) = mistake.replacement
            try replace(right, by: { _ in wrong }, in: &source)
        }
        return RedisFunctionLibrary(name: shipped.name, source: source + "\n" + audit)
    }

    /// Entries of a partition, instead of 100,000, the least window of a queue, instead of 8, and the runs of
    /// a turn, instead of 8.
    static let budget = 30
    static let windowLeast = 3
    static let turn = 2
    /// By how much who comes stands before virtual time, and what rounding leaves of it.
    static let first = 1.0 / 1_024 + 1e-9

    /// The names of a partition's keys, but those of the streams, as the library lists them.
    static func keyNames() throws -> [String] {
        let head = "local KINDS = {"
        let parts = Library.ground.split(separator: head)
        guard parts.count == 2 else { throw Unexpected(text: head, count: parts.count - 1) }
        return parts[1].prefix { $0 != "}" }.split(separator: ",").compactMap { pair in
            let name = pair.split(separator: "=")[0].filter { !$0.isWhitespace }
            return name.isEmpty ? nil : name
        }
    }

    private static func replace(
        _ text: String, by new: (String) -> String, in source: inout String, times: Int = 1
    ) throws {
        let parts = source.split(separator: text, omittingEmptySubsequences: false)
        guard parts.count == times + 1 else { throw Unexpected(text: text, count: parts.count - 1) }
        source = parts.joined(separator: new(text))
    }

    private static let clock = #"""
        local simulatedKey  -- where the clock of the partition stands that is called

        local function simulatedClock()
            local time = tonumber(redis.call('GET', simulatedKey))
            return {math.floor(time / 1000000), time % 1000000}
        end

        -- XADD with `*`, which takes the clock, or the time of the last entry where that is later.
        local function simulatedAppend(key, ...)
            local milliseconds = math.floor(tonumber(redis.call('GET', simulatedKey)) / 1000)
            local id = redis.pcall('XADD', key, string.format('%d-*', milliseconds), ...)
            if type(id) ~= 'table' then return id end
            local info = redis.call('XINFO', 'STREAM', key)
            for i = 1, #info, 2 do
                if info[i] == 'last-generated-id' then
                    return redis.call('XADD', key, string.match(info[i + 1], '^%d+') .. '-*', ...)
                end
            end
        end

        """#

    /// Further functions: `audit` compares every key of the partition with every other, `keep` and `lose` are
    /// a server that writes its file and starts again from it.
    private static let audit = #"""
        local function hashOf(key)
            local flat, hash = redis.call('HGETALL', key), {}
            for i = 1, #flat, 2 do hash[flat[i]] = flat[i + 1] end
            hash[TABLE] = nil
            return hash
        end

        local function wordsOf(text)
            local words = {}
            for word in string.gmatch(text, '%S+') do words[#words + 1] = word end
            return words
        end

        -- whether a dispatcher has taken the bell's token and not called since, then organizations
        -- → what is wrong
        local function auditPartition(keys, args)
            local call, wrong = begin(keys[1]), {}
            local k = call.names
            local function expect(holds, ...)
                if not holds then wrong[#wrong + 1] = table.concat({...}, ' ') end
            end
            if redis.call('EXISTS', k.epoch) == 0 then return wrong end
            local live, depth, returned = hashOf(k.live), hashOf(k.depth), hashOf(k.returned)
            local slots, caps = hashOf(k.slots), hashOf(k.caps)
            local counted, leased, placed, runs = {}, {}, {}, {}
            local function add(field) counted[field] = (counted[field] or 0) + 1 end

            for _, lease in ipairs(redis.call('ZRANGE', k.leases, 0, -1)) do
                local words = wordsOf(lease)
                local place = words[2] .. ' ' .. words[3] .. ' ' .. words[4]
                expect(not leased[place], 'an entry with two leases:', place)
                leased[place] = true
                add('o' .. words[2])
                add('d' .. words[7])
            end
            for _, member in ipairs(redis.call('ZRANGE', k.running, 0, -1)) do
                local words = wordsOf(member)
                runs[words[2] .. ' ' .. words[3]] = true
                add('o' .. words[1])
                add('r' .. words[1])
                add('d' .. words[4])
            end

            local waiting, aside, streams = {}, {}, {}
            local function auditStream(organization, priority, key, field)
                local ready, back, pending = 0, 0, {}
                expect(depth[field], 'a stream without a depth:', field)
                for _, entry in ipairs(redis.call('XPENDING', key, GROUP, '-', '+', 10000)) do
                    pending[entry[1]] = entry[2]
                end
                for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
                    local id, run, generation, device = entry[1], parseWork(entry[2][2])
                    local place = organization .. ' ' .. priority .. ' ' .. id
                    local where = pending[id]
                    pending[id] = nil
                    if not where or where == 'returned' then ready = ready + 1 end
                    if where == 'returned' then back = back + 1 end
                    if where == 'leased' then expect(leased[place], 'leased without a lease:', place) end
                    if where == 'delayed' then waiting[#waiting + 1] = place end
                    if where == 'held' then
                        aside[#aside + 1] = device .. ' ' .. place
                        add('h' .. organization .. ':' .. priority)
                    end
                    local known = live[run] or ''
                    local text = liveText(generation, priority, id, '')
                    local isLive = known:sub(1, #text) == text
                    expect(isLive or leased[place], 'an entry that nobody knows:', place)
                    placed[run .. ' ' .. priority .. ' ' .. id] = true
                end
                for id in pairs(pending) do expect(false, 'pending without an entry:', field, id) end
                expect(tonumber(depth[field]) == ready, 'depth of', field, depth[field] or '', ready)
                expect(tonumber(returned[field] or 0) == back, 'returned of', field, back)
                streams[field] = true
            end
            for i = 2, #args do
                for _, priority in ipairs(PRIORITIES) do
                    local key = queueKey(call, args[i], priority)
                    if redis.call('EXISTS', key) == 1 then
                        auditStream(args[i], priority, key, args[i] .. ':' .. priority)
                    end
                end
            end
            for field in pairs(depth) do expect(streams[field], 'a depth without a stream:', field) end
            for field in pairs(returned) do expect(streams[field], 'returned without a stream:', field) end

            local function same(name, key, members)
                expect(redis.call('ZCARD', key) == #members, name, 'has', redis.call('ZCARD', key))
                for _, member in ipairs(members) do
                    expect(redis.call('ZSCORE', key, member), name, 'lacks', member)
                end
            end
            same('due', k.due, waiting)
            same('held', k.held, aside)
            for field, count in pairs(counted) do
                expect(tonumber(slots[field]) == count, 'slots of', field, slots[field] or 'none', count)
            end
            for field, count in pairs(slots) do expect(counted[field], 'slots of', field, count, 'none') end
            for run, value in pairs(live) do
                local words = wordsOf(value)
                if #words == 1 then
                    expect(runs[run .. ' ' .. value], 'live as running, and no member:', run)
                else
                    expect(placed[run .. ' ' .. words[2] .. ' ' .. words[3]], 'live without an entry:', run)
                end
            end

            -- A place belongs to a run that is here, and who waits for one waits for somebody.
            local lanes, taken, places = hashOf(k.lanes), hashOf(k.taken), {}
            for run, text in pairs(lanes) do
                expect(live[run], 'a place without a run:', run)
                local organization, names = string.match(text, '^(%S+) (.*)$')
                for name in string.gmatch(names, '%S+') do
                    local field = organization .. ' ' .. name
                    places[field] = (places[field] or 0) + 1
                end
            end
            for field, count in pairs(places) do
                expect(tonumber(taken[field]) == count, 'places of', field, taken[field] or 'none', count)
            end
            for field, count in pairs(taken) do expect(places[field], 'places of', field, count, 'none') end
            for field in pairs(hashOf(k.wanted)) do expect(taken[field], 'wanted and free:', field) end

            -- Who has entries and is neither paused nor capped nor blocked aside is in service.
            local ready = redis.call('ZRANGE', k.ready, 0, -1)
            for field, count in pairs(depth) do
                local organization = string.match(field, '^(.*):%d$')
                local cap = tonumber(caps[organization .. ':cap'] or math.huge)
                local pausedBy = redis.call(
                    'SMISMEMBER', k.paused, '*', '*' .. field:sub(-2), organization, field)
                if tonumber(count) > 0 and tonumber(slots['o' .. organization] or 0) < cap
                    and pausedBy[1] + pausedBy[2] + pausedBy[3] + pausedBy[4] == 0
                    -- A window that grows opens a blocked queue at the next sweep only.
                    and tonumber(slots['h' .. field] or 0) <= WINDOW_LEAST then
                    expect(redis.call('ZSCORE', k.ready, organization), 'not in service:', organization)
                end
            end
            for _, organization in ipairs(ready) do
                expect(redis.call('SISMEMBER', k.paused, organization) == 0, 'paused in service')
                local start, last = redis.call('ZSCORE', k.ready, organization), redis.call(
                    'ZSCORE', k.finish, organization)
                local ahead = (last or start) - start
                local weight = caps[organization .. ':weight'] or 1
                local most = math.max(FIRST, TURN - 1 / weight) + FIRST
                expect(not last or ahead >= 0 and ahead <= most, 'ahead by', ahead)
            end
            -- Nobody is ahead of virtual time by more than a turn.
            local virtual, charged = tonumber(redis.call('GET', k.virtual) or 0), {}
            for _, key in ipairs({k.ready, k.finish}) do
                local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
                for i = 1, #rows, 2 do charged[rows[i]] = tonumber(rows[i + 1]) end
            end
            for organization, tag in pairs(charged) do
                local weight = caps[organization .. ':weight'] or 1
                local most = math.max(TURN, 1 / weight) + FIRST + 1e-6
                if organization ~= TABLE then
                    expect(tag - virtual <= most, 'charged beyond a turn:', organization, tag - virtual)
                end
            end
            local tokens = redis.call('LLEN', k.bell)
            expect(tokens <= 1, 'tokens in the bell:', tokens)
            if #ready > 0 and args[1] == '0' then expect(tokens == 1, 'the bell is silent') end
            for _, member in ipairs(redis.call('ZRANGE', k.marks, 0, -1)) do
                expect(redis.call('HEXISTS', k.versions, member) == 1, 'a mark without a version:', member)
            end
            local versions = redis.call('HLEN', k.versions) - redis.call('HEXISTS', k.versions, TABLE)
            expect(redis.call('ZCARD', k.marks) == versions, 'versions without marks')
            return wrong
        end

        redis.register_function{
            function_name = LIBRARY .. '_audit', flags = {'no-writes'}, callback = auditPartition,
        }

        local function copyAll(keys, from, to)
            for i = 2, #keys do
                if redis.call('COPY', from .. keys[i], to .. keys[i], 'REPLACE') == 0 then
                    redis.call('DEL', to .. keys[i])
                end
            end
            return #keys
        end
        redis.register_function(LIBRARY .. '_keep', function(keys) return copyAll(keys, '', 'kept:') end)
        redis.register_function(LIBRARY .. '_lose', function(keys) return copyAll(keys, 'kept:', '') end)
        """#
}

/// One rule taken out of the library: the simulation must find it.
enum Mistake: String, CaseIterable {
    /// A marked organization admits entries from the fast path.
    case enqueuePassesMark
    /// Refill clears a mark that was set again meanwhile.
    case refillClearsAnyVersion
    /// An organization that comes back begins at virtual time, whatever it had.
    case tagsAreForgotten
    /// Who comes back has the rest of its turn, and more.
    case turnsHaveNoEnd
    /// Who comes has its runs for nothing.
    case comersAreNotCharged
    /// An acknowledgement starts a run that has settled already.
    case acknowledgeStartsTheSettled
    /// A claim rings no bell.
    case conclusionRingsNobody
    /// A claim goes on past the lane of a device.
    case laneIsOpen
    /// A claim goes on past the cap of an organization.
    case capIsIgnored
    /// A presence is removed by a session that is not its own.
    case absentErasesSuccessor
    /// A function accepts any epoch.
    case epochIsIgnored
    /// The lower priorities have no share of their own.
    case lowerHaveNoShare
    /// A settlement frees a slot also where there was no membership.
    case settleFreesTwice
    /// An old generation replaces a newer one.
    case generationsDoNotRise
    /// A claim goes on past the pause of a priority.
    case pausedPriorityIsServed
    /// What is resumed comes into service by the sweep only.
    case resumeOffersNobody
    /// Refill goes on past limits.
    case placesAreIgnored
    /// A run that ends keeps its places.
    case placesLeak
    /// A place that becomes free is told to nobody.
    case placesWakeNobody
    /// Refill goes on past the rate of an organization.
    case rateIsIgnored
    /// Interactive runs go before standard ones however many there are.
    case bucketIsEndless
    /// A lapsed lease is no crash.
    case crashesAreForgotten

    /// Where it shows, if chance alone rarely brings it.
    var aim: Aim? {
        switch self {
        case .acknowledgeStartsTheSettled: .acknowledge
        case .epochIsIgnored: .rebuild
        // Shares of priorities are judged where nothing goes wrong.
        case .lowerHaveNoShare: .parking
        case .placesAreIgnored, .placesLeak, .placesWakeNobody, .rateIsIgnored, .bucketIsEndless: .limits
        case .crashesAreForgotten: .poison
        default: nil
        }
    }

    /// The text that holds the rule, and what stands there without it.
    var replacement: (right: String, wrong: String) {
        switch self {
        case .enqueuePassesMark: ("if not marked and redis.call", "if redis.call")
        case .refillClearsAnyVersion:
            (
                "if complete and args[5] == '0' and redis.call('HGET', k.versions, queue) == version then",
                "if complete and args[5] == '0' then"
            )
        case .tagsAreForgotten:
            ("local start = math.max(virtual, last)", "local start = virtual")
        case .comersAreNotCharged:
            (
                "candidate.last = math.max(candidate.tag, tonumber(lasts[i] or 0))",
                "candidate.last = candidate.tag"
            )
        case .turnsHaveNoEnd:
            ("ahead = math.max(FIRST, TURN - 1 / tonumber(weight))", "ahead = math.huge")
        case .acknowledgeStartsTheSettled: ("elseif claim.current then", "else")
        case .conclusionRingsNobody: ("ring(k)\n    return offered", "return offered")
        case .laneIsOpen: ("elseif lanes[lane] >= LANE then", "elseif false then")
        case .capIsIgnored:
            (
                "candidate.free = cap and cap - tonumber(slots[i] or 0) or math.huge",
                "candidate.free = math.huge"
            )
        case .absentErasesSuccessor:
            (
                "if redis.call('HGET', k.presence, args[2]) ~= args[3] .. ' ' .. args[4] then return 0 end",
                ""
            )
        case .epochIsIgnored:
            ("if epoch ~= args[1] then return stale(epoch) end\n            return body(", "return body(")
        case .lowerHaveNoShare: ("local GUARANTEE = {0, 15, 5}", "local GUARANTEE = {0, 0, 0}")
        case .settleFreesTwice: ("if deadlines[i] and not seen[members[i]] then", "if true then")
        case .pausedPriorityIsServed:
            (
                "if depths[at] and not pausedHere[priority] and not blocked[at]",
                "if depths[at] and not blocked[at]"
            )
        case .resumeOffersNobody:
            ("elseif args[4] == '0' and organization ~= '*' then", "elseif false then")
        case .placesAreIgnored:
            ("if status == 0 and limit ~= '-' and known[field] >= tonumber(limit) then", "if false then")
        case .placesLeak: ("if call.lanes then leaveLanes(k, runs) end", "")
        case .placesWakeNobody: ("if priorities then", "if false then")
        case .rateIsIgnored:
            ("local space = math.min(room(call, k, queue), tokens)", "local space = room(call, k, queue)")
        case .bucketIsEndless: ("tokens = math.max(0, math.floor(tokens))", "tokens = math.huge")
        case .crashesAreForgotten:
            ("return giveUp(call, k, expired, 1)", "return giveUp(call, k, expired, 0)")
        case .generationsDoNotRise: ("if live.generation < tonumber(generation) then", "if true then")
        }
    }
}
