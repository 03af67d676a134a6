extension Library {
    /// Fair claiming: start-time fair queueing over the organizations in service.
    static let claim = #"""
        -- Delayed entries whose time has come go back to the head of their queue; returns how many.
        local function moveDue(call, k, limit)
            local due = redis.call('ZRANGEBYSCORE', k.due, '-inf', decimal(now()), 'LIMIT', 0, limit)
            for _, member in ipairs(due) do
                local organization, priority, id = string.match(member, '^(%S+) (%S+) (%S+)$')
                redis.call('ZREM', k.due, member)
                giveBack(call, organization, priority, id)
            end
            if #due > 0 then conclude(call, k) end
            return #due
        end

        -- The heap's order: by tag, then by place.
        local function before(a, b)
            return a.tag < b.tag or (a.tag == b.tag and a.place < b.place)
        end

        local function sink(heap, size)
            local i, item = 1, heap[1]
            while 2 * i <= size do
                local child = 2 * i
                if child < size and before(heap[child + 1], heap[child]) then child = child + 1 end
                if not before(heap[child], item) then break end
                heap[i] = heap[child]
                i = child
            end
            heap[i] = item
        end

        -- Shares `wanted` runs out among candidates (sorted by tag): a turn to the least tag, or one run to
        -- who has just come. Behind `horizon` others may stand who are not among them.
        local function share(candidates, wanted, turn, horizon)
            local heap, size = {unpack(candidates)}, #candidates
            while wanted > 0 and size > 0 and heap[1].tag <= horizon do
                local first = heap[1]
                local runs = 1
                if turn > 1 and (first.turn or not first.comes) then
                    runs = math.max(1, math.floor(turn / first.cost + 0.001))
                end
                runs = math.min(runs, first.supply - first.share, wanted)
                first.share, first.turn = first.share + runs, first.tag
                first.last = first.last + runs * first.cost
                first.tag = first.last
                wanted = wanted - runs
                if first.share == first.supply then
                    heap[1] = heap[size]
                    size = size - 1
                end
                if size > 0 then sink(heap, size) end
            end
        end

        -- The organizations whose turn it is, with their supply and their share of `wanted` runs. Of those in
        -- service `most` are looked at.
        local function plan(call, k, wanted, most, turn)
            local rows = redis.call('ZRANGE', k.ready, 0, most - 1, 'WITHSCORES')
            local depthFields, capFields, slotFields, candidates = {}, {}, {}, {}
            for i = 1, #rows, 2 do
                local organization = rows[i]
                for _, priority in ipairs(PRIORITIES) do
                    depthFields[#depthFields + 1] = organization .. ':' .. priority
                end
                capFields[#capFields + 1] = organization .. ':cap'
                capFields[#capFields + 1] = organization .. ':weight'
                slotFields[#slotFields + 1] = 'o' .. organization
            end
            if #rows == 0 then return candidates end
            local organizations = {}
            for i = 1, #rows, 2 do organizations[#organizations + 1] = rows[i] end
            local paused, blocked = pauses(call, k, organizations), blockedQueues(k, depthFields)
            local depths = redis.call('HMGET', k.depth, unpack(depthFields))
            local caps = redis.call('HMGET', k.caps, unpack(capFields))
            local slots = redis.call('HMGET', k.slots, unpack(slotFields))
            local prices, stopped = costs(k, organizations), call.stopped
            local lasts = redis.call('ZMSCORE', k.finish, unpack(organizations))
            for i = 1, #rows / 2 do
                local candidate = {
                    organization = rows[2 * i - 1], place = i,
                    tag = tonumber(rows[2 * i]), depths = {}, depth = 0, share = 0, served = 0,
                }
                -- What is charged, where it is served before that; see `place`.
                candidate.comes = lasts[i] and true
                candidate.last = math.max(candidate.tag, tonumber(lasts[i] or 0))
                candidate.start = candidate.last
                candidate.cost = prices[i] / tonumber(caps[2 * i] or 1)
                local pausedHere = paused[i]
                for j, priority in ipairs(PRIORITIES) do
                    local at, depth = #PRIORITIES * (i - 1) + j, 0
                    if depths[at] and not pausedHere[priority] and not blocked[at]
                        and not stopped[depthFields[at]] then
                        depth = math.max(0, tonumber(depths[at]))
                    end
                    candidate.depths[j] = depth
                    candidate.depth = candidate.depth + depth
                end
                local cap = tonumber(caps[2 * i - 1] or nil)
                candidate.free = cap and cap - tonumber(slots[i] or 0) or math.huge
                candidate.supply = math.min(candidate.depth, candidate.free)
                if candidate.supply > 0 then
                    candidates[#candidates + 1] = candidate
                else
                    leave(k, candidate.organization, candidate.start)
                end
            end
            local horizon = #rows / 2 < most and math.huge or tonumber(rows[#rows])
            share(candidates, wanted, turn, horizon)
            divide(call, k, candidates)
            return candidates
        end

        -- Up to `wanted` entries of one queue, now pending with `leased`: those that came back first.
        local function read(call, k, organization, priority, wanted)
            local key, field = queueKey(call, organization, priority), organization .. ':' .. priority
            local entries = {}
            local function take(consumer, limit, from)
                local reply = redis.pcall(
                    'XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', limit, 'STREAMS', key, from)
                return reply and not reply.err and reply[1] and reply[1][2] or {}
            end
            if redis.call('EXISTS', k.returned) == 1 and redis.call('HEXISTS', k.returned, field) == 1 then
                for _, entry in ipairs(take('returned', wanted, '0')) do
                    give(call, organization, priority, 'leased', entry[1])
                    adjust(k.returned, field, -1)
                    entries[#entries + 1] = entry
                end
            end
            if #entries < wanted then
                for _, entry in ipairs(take('leased', wanted - #entries, '>')) do
                    entries[#entries + 1] = entry
                end
            end
            return entries
        end

        -- What an entry is for: work, run, generation, device. One that was deleted while it was pending is
        -- for nothing.
        local function parseEntry(entry)
            local work = entry[2] and entry[2][2]
            if not work then return '', '', '', '' end
            return work, parseWork(work)
        end

        -- Unsettled runs of devices, this call's included, by their field.
        local function loadLanes(k, lanes, names)
            local fields = {}
            for _, name in ipairs(names) do
                if not lanes[name] then
                    lanes[name] = 0
                    fields[#fields + 1] = name
                end
            end
            if #fields == 0 then return end
            for i, value in ipairs(redis.call('HMGET', k.slots, unpack(fields))) do
                lanes[fields[i]] = tonumber(value or 0)
            end
        end

        -- An entry whose device has no room in its lane waits aside; the first that is one too many stops its
        -- queue.
        local function setAside(call, k, organization, priority, id, device)
            local queue = organization .. ':' .. priority
            if call.stopped[queue]
                or tonumber(redis.call('HGET', k.slots, 'h' .. queue) or 0) > window(k) then
                giveBack(call, organization, priority, id)
                call.stopped[queue] = true
                return
            end
            give(call, organization, priority, 'held', id)
            redis.call('ZADD', k.held, 0, holding(organization, device, priority, id))
            redis.call('HINCRBY', k.slots, 'h' .. queue, 1)
        end

        -- How often an owner of this entry has crashed; nothing if `live` does not name it.
        local function crashesOf(value, priority, id, generation)
            if not value then return nil end
            if value == liveText(generation, priority, id, '0') then return 0 end
            local live = parseLive(value)
            return live.id == id and live.priority == priority and live.crashes or nil
        end

        -- Reads as many entries from each of these queues with one command; none if one of them has no
        -- stream.
        local function readTogether(call, wanted, queues)
            local names, found = {}, {}
            for i, queue in ipairs(queues) do
                names[i], names[#queues + i] =
                    queueKey(call, queue.candidate.organization, queue.priority), '>'
            end
            local reply = redis.pcall(
                'XREADGROUP', 'GROUP', GROUP, 'leased', 'COUNT', wanted, 'STREAMS', unpack(names))
            if reply and reply.err then return end
            for _, stream in ipairs(reply or {}) do found[stream[1]] = stream[2] end
            for i, queue in ipairs(queues) do queue.entries = found[names[i]] or {} end
        end

        -- Reads what the shares of these candidates bring, now pending with `leased`: {candidate, place,
        -- priority, limit, entries}…
        local function readShares(call, k, candidates)
            local queues, same = {}, {}
            for _, candidate in ipairs(candidates) do
                for i, limit in ipairs(candidate.shares) do
                    if limit > 0 then
                        local queue =
                            {candidate = candidate, place = i, priority = PRIORITIES[i], limit = limit}
                        queues[#queues + 1] = queue
                        same[limit] = same[limit] or {}
                        table.insert(same[limit], queue)
                    end
                end
            end
            -- What came back goes first, a queue at a time.
            if #queues > 1 and redis.call('EXISTS', k.returned) == 0 then
                for limit, some in pairs(same) do
                    if #some > 1 then readTogether(call, limit, some) end
                end
            end
            for _, queue in ipairs(queues) do
                queue.entries = queue.entries
                    or read(call, k, queue.candidate.organization, queue.priority, queue.limit)
            end
            return queues
        end

        -- Leases the shares of these candidates: each run to `leases`, with the same place in `devices` and
        -- `crashed`.
        local function serve(call, k, candidates, owner, lanes, leases, devices, crashed)
            local items, runs, names = {}, {}, {}
            for _, queue in ipairs(readShares(call, k, candidates)) do
                local candidate, entries = queue.candidate, queue.entries
                -- A queue that gave less than its depth says is empty, whatever the depth says.
                local taken = #entries < queue.limit and candidate.depths[queue.place] or #entries
                shift(call, candidate.organization, queue.priority, -taken)
                candidate.depths[queue.place] = candidate.depths[queue.place] - taken
                for _, entry in ipairs(entries) do
                    local work, run, generation, device = parseEntry(entry)
                    local at, lane = #items + 1, 'd' .. device
                    items[at] = {
                        candidate = candidate, priority = queue.priority, id = entry[1], work = work,
                        generation = generation, device = device, lane = lane,
                    }
                    runs[at], names[at] = run, lane
                end
            end
            if #items == 0 then return end
            loadLanes(k, lanes, names)
            for i, value in ipairs(redis.call('HMGET', k.live, unpack(runs))) do
                local item = items[i]
                local candidate, priority, id, lane = item.candidate, item.priority, item.id, item.lane
                local organization = candidate.organization
                local crashes = crashesOf(value, priority, id, item.generation)
                if not crashes then
                    discard(call, organization, priority, id)
                elseif lanes[lane] >= LANE then
                    setAside(call, k, organization, priority, id, item.device)
                else
                    -- No two leases are the same, also of one owner and entry: each call has a number.
                    call.number = call.number or tick(k)
                    local at = #leases + 1
                    leases[at] = owner .. ' ' .. organization .. ' ' .. priority .. ' ' .. id .. ' '
                        .. item.work .. ' ' .. call.number
                    devices[at], crashed[at] = item.device, crashes
                    lanes[lane] = lanes[lane] + 1
                    count(call, lane, 1)
                    candidate.served = candidate.served + 1
                end
            end
            for _, candidate in ipairs(candidates) do
                if candidate.served > 0 then count(call, 'o' .. candidate.organization, candidate.served) end
            end
        end

        -- Charges a candidate for what it got; `tags` are of those who go on. Returns the tag of its last
        -- turn.
        local function charge(call, k, candidate, tags)
            local start, goesOn = candidate.start + candidate.served * candidate.cost, false
            local hasStopped = next(call.stopped)
            for i, depth in ipairs(candidate.depths) do
                if depth > 0 then
                    local queue = hasStopped and candidate.organization .. ':' .. PRIORITIES[i]
                    goesOn = goesOn or not (queue and call.stopped[queue])
                end
            end
            if goesOn and candidate.served < candidate.free then
                -- Who was served nothing goes on by what it was charged, before virtual time passes that.
                if candidate.served > 0 or candidate.comes then
                    tags[#tags + 1], tags[#tags + 2] = decimal(start), candidate.organization
                    if candidate.comes then redis.call('ZREM', k.finish, candidate.organization) end
                end
            else
                leave(k, candidate.organization, start)
            end
            return candidate.served > 0 and math.min(candidate.turn, start) or 0
        end

        local CLAIMING = {
            'live', 'depth', 'returned', 'slots', 'caps', 'ready', 'finish', 'virtual', 'leases', 'due',
            'held', 'presence', 'marks', 'bell', 'paused', 'sequence', 'credits', 'buckets', 'running',
            'costs',
        }

        local ROUNDS = 8  -- more than one only where entries were stale or set aside

        -- owner, limit, lease milliseconds → more?, then {lease, crashes, presence}…
        define('claim', FREE, CLAIMING, function(call, k, args)
            local owner, limit = args[2], math.min(tonumber(args[3]), RUNS_A_CALL)
            local leases, devices, crashed, lanes, round = {}, {}, {}, {}, 0
            local turn = turnOf(k, limit)
            moveDue(call, k, RUNS_A_CALL)
            repeat
                local before, wanted, virtual = #leases, limit - #leases, virtualTime(k)
                -- Where turns are not full, there are more of them.
                local most = round == 0 and math.ceil(wanted / turn) or wanted
                local candidates = plan(call, k, wanted, math.max(SHARERS, most), turn)
                local last, tags = virtual, {}
                serve(call, k, candidates, owner, lanes, leases, devices, crashed)
                for _, candidate in ipairs(candidates) do
                    if candidate.share > 0 then
                        last = math.max(last, charge(call, k, candidate, tags))
                    end
                end
                if #tags > 0 then redis.call('ZADD', k.ready, unpack(tags)) end
                if last > virtual then
                    redis.call('SET', k.virtual, decimal(last))
                    redis.call('ZREMRANGEBYSCORE', k.finish, '-inf', '(' .. decimal(last))
                    makeTable(k, 'finish')
                end
                conclude(call, k)
                -- Others come to their turn where all that was read is stale or waits for a lane.
                if #leases == before then turn = 1 end
                round = round + 1
            until #leases >= limit or redis.call('EXISTS', k.ready) == 0 or round == ROUNDS

            local reply, scores = {redis.call('EXISTS', k.ready)}, {}
            if #leases == 0 then return reply end
            local deadline = decimal(now() + tonumber(args[4]))
            for i, lease in ipairs(leases) do
                scores[2 * i - 1], scores[2 * i], reply[3 * i - 1] = deadline, lease, lease
                devices[i] = string.sub(devices[i], 1, ID)
            end
            redis.call('ZADD', k.leases, unpack(scores))
            for i, presence in ipairs(redis.call('HMGET', k.presence, unpack(devices))) do
                reply[3 * i], reply[3 * i + 1] = crashed[i], presence
            end
            return reply
        end)
        """#
}
