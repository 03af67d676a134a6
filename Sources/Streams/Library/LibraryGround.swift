extension Library {
    /// What every function stands on: names of keys, the epoch check, counters, and the end of a call.
    ///
    /// A function collects what it changed in its `call` (counters, queues, organizations) and ends with
    /// `conclude`, which writes the counters, deletes drained streams, offers organizations for service and
    /// rings the bell.
    static let ground = #"""
        local GROUP = 'dispatch'
        local PRIORITIES = {'0', '1', '2'}  -- interactive, standard, bulk: in the order of service
        local RUNS_A_CALL = 128
        local LANE = 4                      -- unsettled runs of one device
        local BUDGET = 100000               -- entries of one partition, without those that are set aside
        local WINDOW_LEAST, WINDOW_MOST = 8, 1024
        local TURN = 8                      -- runs by weight that an organization gets before the next one
        local PARKED = '+inf'               -- a mark whose queue has no room in its window

        local KINDS = {
            epoch = 'string', rebuild = 'string', virtual = 'string', sequence = 'string', cursor = 'string',
            aside = 'string',
            live = 'hash', depth = 'hash', returned = 'hash', slots = 'hash', caps = 'hash',
            versions = 'hash',
            presence = 'hash', ready = 'zset', finish = 'zset', leases = 'zset', running = 'zset',
            marks = 'zset', credits = 'hash', buckets = 'zset', costs = 'hash',
            lanes = 'hash', taken = 'hash', wanted = 'hash', limited = 'set', rates = 'zset',
            due = 'zset', held = 'zset', paused = 'set', bell = 'list',
        }

        -- A field that is too long for the compact encoding of a hash, in which up to 512 fields are compared
        -- one after the other: a hash that has it is a table from the start. Nobody names it.
        local TABLE = '-----------------------------------------------------------------'
        local TABLES = {'live', 'slots', 'presence', 'depth', 'caps', 'versions'}

        local partitions = {}  -- tag → the full names of its keys

        -- A new call on the partition whose epoch key is given.
        local function begin(epochKey)
            local tag = string.sub(epochKey, 1, -6)
            local names = partitions[tag]
            if not names then
                names = {tables = {}}
                for name in pairs(KINDS) do names[name] = tag .. name end
                partitions[tag] = names
            end
            return {
                tag = tag, names = names, counts = {}, queues = {}, order = {}, organizations = {},
                stopped = {},
            }
        end

        -- A sorted set has such an encoding up to 128 members, and is a table from its first long one until
        -- it is empty. Of those that stand for organizations or queues, one that has some is made a table.
        local function makeTable(k, name)
            local size = redis.call('ZCARD', k[name])
            if size < 16 then
                k.tables[name] = nil
            elseif size <= 128 and not k.tables[name] then
                redis.call('ZADD', k[name], 0, TABLE)
                redis.call('ZREM', k[name], TABLE)
                k.tables[name] = true
            end
        end

        local function refusal(call, uses)
            for _, use in ipairs(uses) do
                local kind = redis.call('TYPE', call.names[use]).ok
                if kind ~= 'none' and kind ~= KINDS[use] then
                    return redis.error_reply('REFUSED the key ' .. use .. ' is a ' .. kind)
                end
            end
        end

        -- The refusal of a call that expects another epoch than there is; nothing follows the space if there
        -- is none.
        local function stale(epoch) return redis.error_reply('STALEEPOCH ' .. (epoch or '')) end

        -- Registers a function that names the epoch it expects as its first argument. `uses` are the keys
        -- whose types are looked at before the body may change anything.
        local function define(name, flags, uses, body)
            redis.register_function{
                function_name = LIBRARY .. '_' .. name,
                flags = flags,
                callback = function(keys, args)
                    local call = begin(keys[1])
                    local epoch = redis.call('GET', call.names.epoch)
                    if epoch ~= args[1] then return stale(epoch) end
                    return refusal(call, uses) or body(call, call.names, args)
                end,
            }
        end

        local FREE = {'allow-oom'}  -- all that makes room, or must go on when there is none
        local STRICT = {}

        local WHOLE_MOST = 1e15

        local small = {}  -- the texts of what counters mostly are

        local function decimal(x)
            local text = small[x]
            if text then return text end
            local isWhole = x % 1 == 0 and x < WHOLE_MOST and x > -WHOLE_MOST
            text = string.format(isWhole and '%d' or '%.17g', x)
            if isWhole and x >= 0 and x <= 1024 then small[x] = text end
            return text
        end

        local function now()
            local time = redis.call('TIME')
            return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
        end

        -- A number that is larger than all before it, also of a data set that was lost (microseconds of the
        -- clock).
        local function tick(k)
            local time = redis.call('TIME')
            local last = tonumber(redis.call('GET', k.sequence) or 0)
            local number = decimal(math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
            redis.call('SET', k.sequence, number)
            return number
        end

        local function queueKey(call, organization, priority)
            return call.tag .. 'queue:' .. organization .. ':' .. priority
        end

        -- Counters ----------------------------------------------------------------------------------------

        -- slots: o<organization> and d<device> count leased and running, r<organization> running,
        -- h<organization>:<priority> set aside.
        local function count(call, field, change)
            call.counts[field] = (call.counts[field] or 0) + change
        end

        -- An organization that this call changed: `conclude` looks at whether it is to be served.
        local function touch(call, organization)
            if call.organizations[organization] == nil then
                call.organizations[organization] = true
                call.organizations[#call.organizations + 1] = organization
            end
        end

        -- `change` entries more that a claim may take from this queue; 0 says that the stream itself changed.
        local function shift(call, organization, priority, change)
            local field = organization .. ':' .. priority
            local queue = call.queues[field]
            if not queue then
                queue = {organization = organization, priority = priority, field = field, change = 0}
                call.queues[field] = queue
                call.order[#call.order + 1] = queue
            end
            queue.change = queue.change + change
            touch(call, organization)
        end

        local function occupy(call, organization, device, change)
            count(call, 'o' .. organization, change)
            count(call, 'd' .. device, change)
            if change < 0 then touch(call, organization) end
        end

        -- One more or one less of a counter that is written at once; absent is zero.
        local function adjust(key, field, change)
            if redis.call('HINCRBY', key, field, change) <= 0 then redis.call('HDEL', key, field) end
        end

        -- Entries -----------------------------------------------------------------------------------------
        -- Until it is acknowledged an entry stays in its stream, and the group says where it is: not yet
        -- read, or pending with one of four constant consumers: leased, returned (to the head), delayed (in
        -- `due`), held (in `held`).

        -- live: "generation priority entry crashes" of what is in a stream, "generation" of what runs.
        local function parseLive(value)
            if not value then return nil end
            local generation, priority, id, crashes = string.match(value, '^(%d+) (%d) (%S+) (%d+)$')
            if generation then
                return {
                    generation = tonumber(generation), priority = priority, id = id,
                    crashes = tonumber(crashes),
                }
            end
            return {generation = tonumber(value)}
        end

        local ID = 36  -- characters of an id

        -- The one field of an entry, `e`: "run generation device".
        local function parseWork(work)
            local device = string.find(work, ' ', ID + 2, true) + 1
            return string.sub(work, 1, ID), string.sub(work, ID + 2, device - 2), string.sub(work, device)
        end

        local function liveText(generation, priority, id, crashes)
            return generation .. ' ' .. priority .. ' ' .. id .. ' ' .. crashes
        end

        local ABSENT = {generation = -1}

        local function lookUp(k, runs)
            local lives = {}
            if #runs == 0 then return lives end
            for i, value in ipairs(redis.call('HMGET', k.live, unpack(runs))) do
                lives[i] = parseLive(value) or ABSENT
            end
            return lives
        end

        local function give(call, organization, priority, consumer, id)
            redis.call('XCLAIM', queueKey(call, organization, priority), GROUP, consumer, 0, id, 'JUSTID')
        end

        local function giveBack(call, organization, priority, id)
            give(call, organization, priority, 'returned', id)
            redis.call('HINCRBY', call.names.returned, organization .. ':' .. priority, 1)
            shift(call, organization, priority, 1)
        end

        local function discard(call, organization, priority, id)
            local key = queueKey(call, organization, priority)
            redis.call('XACK', key, GROUP, id)
            redis.call('XDEL', key, id)
            shift(call, organization, priority, 0)
        end

        local function holding(organization, device, priority, id)
            return device .. ' ' .. organization .. ' ' .. priority .. ' ' .. id
        end

        -- Takes an entry out of its queue wherever it waits. A leased one stays until its lease ends, which
        -- finds that `live` no longer names it.
        local function withdraw(call, k, organization, priority, id)
            local key = queueKey(call, organization, priority)
            local entry = redis.call('XRANGE', key, id, id)[1]
            if not entry then return end
            local pending = redis.call('XPENDING', key, GROUP, id, id, 1)[1]
            local consumer = pending and pending[2]
            if consumer == 'leased' then return end
            if consumer == 'delayed' then
                redis.call('ZREM', k.due, organization .. ' ' .. priority .. ' ' .. id)
            elseif consumer == 'held' then
                local _, _, device = parseWork(entry[2][2])
                redis.call('ZREM', k.held, holding(organization, device, priority, id))
                adjust(k.slots, 'h' .. organization .. ':' .. priority, -1)
            else
                if consumer == 'returned' then adjust(k.returned, organization .. ':' .. priority, -1) end
                shift(call, organization, priority, -1)
            end
            discard(call, organization, priority, id)
        end

        -- The next entries of a device whose lane has `room` go back to the head of their queue.
        local function reopen(call, k, device, room)
            local members = redis.call(
                'ZRANGEBYLEX', k.held, '[' .. device .. ' ', '(' .. device .. '!', 'LIMIT', 0, room)
            for _, member in ipairs(members) do
                local organization, priority, id = string.match(member, '^%S+ (%S+) (%S+) (%S+)$')
                redis.call('ZREM', k.held, member)
                adjust(k.slots, 'h' .. organization .. ':' .. priority, -1)
                giveBack(call, organization, priority, id)
            end
        end

        -- The window --------------------------------------------------------------------------------------
        -- Each queue (organization:priority) has one, and as much again for what it has set aside.

        local function window(k)
            local active = math.max(1, redis.call('HLEN', k.depth) - 1)
            return math.max(WINDOW_LEAST, math.min(WINDOW_MOST, math.floor(BUDGET / active)))
        end

        local function queueFields(organization)
            local fields = {}
            for i, priority in ipairs(PRIORITIES) do fields[i] = organization .. ':' .. priority end
            return fields
        end

        -- How many entries more a queue may have in Redis. What is set aside has a bound of its own.
        local function room(call, k, queue)
            local used = redis.call('XLEN', call.tag .. 'queue:' .. queue)
            if used > 0 then used = used - tonumber(redis.call('HGET', k.slots, 'h' .. queue) or 0) end
            local space = window(k) - used
            if space <= 0 then return space end
            -- A queue that came while few were active may have more than its window is now; all together
            -- keep the budget, but for the least that each may have.
            local aside = redis.call('ZCARD', k.running) + redis.call('ZCARD', k.held)
            local left = BUDGET - (redis.call('HLEN', k.live) - 1 - aside)
            return math.max(math.min(space, left), math.min(space, WINDOW_LEAST - used))
        end

        -- Refill comes in strides, not for each entry that leaves.
        -- What has nothing left gets what little it may have also where the budget allows no stride.
        local function hasRoom(call, k, queue)
            local space = room(call, k, queue)
            return space >= math.floor(window(k) / 4)
                or space > 0 and redis.call('XLEN', call.tag .. 'queue:' .. queue) == 0
        end

        -- Service -----------------------------------------------------------------------------------------

        local function virtualTime(k) return tonumber(redis.call('GET', k.virtual) or 0) end

        local SHARERS = 16      -- organizations among which a claim is shared at least
        local FIRST = 1 / 1024  -- of a run: what puts who comes before who waits with the same tag

        -- How many runs an organization of weight 1 gets before the next one, in a claim that serves up to
        -- `limit`. What costs more than it takes to hand it out goes one at a time.
        local function turnOf(k, limit)
            if redis.call('EXISTS', k.costs) == 1 then return 1 end
            return math.max(1, math.min(TURN, math.floor(limit / SHARERS)))
        end

        -- Takes an organization out of service; its tag is remembered until virtual time has passed it.
        local function leave(k, organization, tag)
            redis.call('ZREM', k.ready, organization)
            redis.call('ZADD', k.finish, 'GT', decimal(tag), organization)
        end

        local FREELY = {}

        -- For each of these organizations, the priorities in which it is paused. A member of `paused` is an
        -- organization or * for all, with :priority behind it where only that one is meant.
        local function pauses(call, k, organizations)
            local reply = {}
            for i = 1, #organizations do reply[i] = FREELY end
            if call.pauses == nil then call.pauses = redis.call('EXISTS', k.paused) == 1 end
            if not call.pauses then return reply end
            local names = {'*', unpack(queueFields('*'))}
            for _, organization in ipairs(organizations) do
                names[#names + 1] = organization
                for _, field in ipairs(queueFields(organization)) do names[#names + 1] = field end
            end
            local flags, width = redis.call('SMISMEMBER', k.paused, unpack(names)), #PRIORITIES + 1
            for i = 1, #organizations do
                reply[i] = {}
                for j, priority in ipairs(PRIORITIES) do
                    local at = width * i + 1
                    reply[i][priority] = flags[1] + flags[1 + j] + flags[at] + flags[at + j] > 0
                end
            end
            return reply
        end

        -- Puts an organization that was charged up to `last` into service. Who comes has one run at once,
        -- before those who wait for their turn, and so up to a turn ahead of virtual time: it stands by a
        -- lesser tag and is charged by its own, which is in `finish`. Of those who come, who has had least is
        -- first.
        local function place(k, organization, last)
            local virtual = virtualTime(k)
            local start = math.max(virtual, last)
            if turnOf(k, RUNS_A_CALL) == 1 then
                redis.call('ZREM', k.finish, organization)
            else
                redis.call('ZADD', k.finish, decimal(start), organization)
                local first, ahead = virtual - FIRST, FIRST
                if start > virtual then
                    local weight = redis.call('HGET', k.caps, organization .. ':weight') or 1
                    first = first + FIRST * math.min(1, (start - virtual) / TURN)
                    ahead = math.max(FIRST, TURN - 1 / tonumber(weight))
                end
                start = math.max(first, start - ahead)
            end
            redis.call('ZADD', k.ready, decimal(start), organization)
        end

        -- Puts an organization that is not in service into it, if it has entries that are not paused and is
        -- not at its cap.
        local function offer(call, k, organization)
            local depths = redis.call('HMGET', k.depth, unpack(queueFields(organization)))
            local paused, some = nil, false
            for i, priority in ipairs(PRIORITIES) do
                if tonumber(depths[i] or 0) > 0 and not call.stopped[organization .. ':' .. priority] then
                    paused = paused or pauses(call, k, {organization})[1]
                    some = some or not paused[priority]
                end
            end
            if not some then return false end
            local cap = redis.call('HGET', k.caps, organization .. ':cap')
            local taken = redis.call('HGET', k.slots, 'o' .. organization)
            if cap and tonumber(taken or 0) >= tonumber(cap) then return false end
            place(k, organization, tonumber(redis.call('ZSCORE', k.finish, organization) or 0))
            return true
        end

        local function ring(k)
            if redis.call('EXISTS', k.ready) == 1 and redis.call('EXISTS', k.bell) == 0 then
                redis.call('LPUSH', k.bell, '1')
            end
        end

        -- Writes the counters; returns the devices that have room in their lane again.
        local function writeCounts(call, k)
            local fields, set, gone, freed = {}, {}, {}, {}
            for field, change in pairs(call.counts) do
                if change ~= 0 then fields[#fields + 1] = field end
            end
            if #fields == 0 then return freed end
            for i, value in ipairs(redis.call('HMGET', k.slots, unpack(fields))) do
                local field = fields[i]
                local total = tonumber(value or 0) + call.counts[field]
                if total > 0 then
                    set[#set + 1] = field
                    set[#set + 1] = decimal(total)
                else
                    gone[#gone + 1] = field
                end
                if call.counts[field] < 0 and total < LANE and string.sub(field, 1, 1) == 'd' then
                    freed[#freed + 1] = {device = string.sub(field, 2), room = LANE - total}
                end
            end
            if #set > 0 then redis.call('HSET', k.slots, unpack(set)) end
            if #gone > 0 then redis.call('HDEL', k.slots, unpack(gone)) end
            call.counts = {}
            return freed
        end

        -- Writes the depths; a queue that has nothing to claim, and nothing pending either, is deleted.
        -- Returns the queues that were changed.
        local function writeQueues(call, k)
            local order, names, set, keys, fields = call.order, {}, {}, {}, {}
            if #order == 0 then return names end
            for i, queue in ipairs(order) do names[i] = queue.field end
            for i, value in ipairs(redis.call('HMGET', k.depth, unpack(names))) do
                local queue = order[i]
                local depth = tonumber(value or 0) + queue.change
                if queue.change ~= 0 then
                    set[#set + 1], set[#set + 2] = queue.field, decimal(depth)
                end
                if depth <= 0 then
                    local key = queueKey(call, queue.organization, queue.priority)
                    if redis.call('XLEN', key) == 0 then
                        keys[#keys + 1], fields[#fields + 1] = key, queue.field
                    end
                end
            end
            if #set > 0 then redis.call('HSET', k.depth, unpack(set)) end
            if #keys > 0 then
                redis.call('DEL', unpack(keys))
                for _, key in ipairs({k.depth, k.returned, k.credits}) do
                    redis.call('HDEL', key, unpack(fields))
                end
            end
            call.queues, call.order = {}, {}
            return names
        end

        -- Marks of these queues that are parked wait no longer where there is room; returns how many.
        local function unpark(call, k, queues)
            local unparked = 0
            if #queues == 0 then return unparked end
            for i, since in ipairs(redis.call('ZMSCORE', k.marks, unpack(queues))) do
                if since == 'inf' and hasRoom(call, k, queues[i]) then
                    redis.call('ZADD', k.marks, decimal(now()), queues[i])
                    unparked = unparked + 1
                end
            end
            return unparked
        end

        -- The end of every function that changes something; returns how many organizations came into service.
        local function conclude(call, k)
            local freed = writeCounts(call, k)
            if #freed > 0 and redis.call('EXISTS', k.held) == 1 then
                for _, lane in ipairs(freed) do reopen(call, k, lane.device, lane.room) end
            end
            local offered, queues = 0, writeQueues(call, k)
            if #call.organizations > 0 then
                local tags = redis.call('ZMSCORE', k.ready, unpack(call.organizations))
                for i, organization in ipairs(call.organizations) do
                    if not tags[i] then
                        offered = offered + (offer(call, k, organization) and 1 or 0)
                    elseif call.urgent == organization and tonumber(tags[i]) >= virtualTime(k)
                        and not redis.call('ZSCORE', k.finish, organization) then
                        place(k, organization, tonumber(tags[i]))
                    end
                end
            end
            if redis.call('EXISTS', k.marks) == 1 then unpark(call, k, queues) end
            if offered > 0 then makeTable(k, 'ready') end
            call.organizations = {}
            ring(k)
            return offered
        end
        """#
}
