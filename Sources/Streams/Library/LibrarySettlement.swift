extension Library {
    /// How claims end: acknowledge, release, settle, renew, reclaim.
    static let settlement = #"""
        -- A lease names all that its end needs: owner organization priority entry run generation device
        -- number.
        local function parseLease(lease)
            local organization, priority, id, run, generation, device =
                string.match(lease, '^%S+ (%S+) (%d) (%S+) (%S+) (%d+) (%S+) %d+$')
            return {
                organization = organization, priority = priority, id = id, run = run,
                generation = generation, device = device,
            }
        end

        -- Ends these leases. Returns their claims with what `live` says about them. `held`: the lease existed
        -- until now; `current`: the run is to be executed still, by this entry.
        local function endLeases(call, k, leases)
            local claims, runs, seen = {}, {}, {}
            if #leases == 0 then return claims end
            local deadlines = redis.call('ZMSCORE', k.leases, unpack(leases))
            redis.call('ZREM', k.leases, unpack(leases))
            for i, lease in ipairs(leases) do
                local claim = parseLease(lease)
                claim.lease = lease
                claim.held = deadlines[i] and not seen[lease]
                seen[lease] = true
                if claim.held then occupy(call, claim.organization, claim.device, -1) end
                claims[i], runs[i] = claim, claim.run
            end
            for i, live in ipairs(lookUp(k, runs)) do
                local claim = claims[i]
                claim.crashes = live.crashes
                claim.current = live.id == claim.id and live.priority == claim.priority
                    and live.generation == tonumber(claim.generation)
            end
            return claims
        end

        -- The entries of `claims` leave their streams, a stream at a time.
        local function discardAll(call, claims)
            local batches = {}
            for _, claim in ipairs(claims) do
                local key = queueKey(call, claim.organization, claim.priority)
                if not batches[key] then
                    batches[key] = {}
                    batches[#batches + 1] = key
                end
                table.insert(batches[key], claim.id)
                shift(call, claim.organization, claim.priority, 0)
            end
            for _, key in ipairs(batches) do
                redis.call('XACK', key, GROUP, unpack(batches[key]))
                redis.call('XDEL', key, unpack(batches[key]))
            end
        end

        -- Memberships of `running`: organization run generation device, with a deadline.
        local function membership(organization, run, generation, device)
            return organization .. ' ' .. run .. ' ' .. generation .. ' ' .. device
        end

        -- Adds runs to `running` unless they are there; a slot moves with the membership and with nothing
        -- else. Returns how many were not.
        local function start(call, k, runs)
            if #runs == 0 then return 0 end
            local members, values, seen = {}, {}, {}
            for i, run in ipairs(runs) do
                members[i] = membership(run.organization, run.run, run.generation, run.device)
            end
            for i, score in ipairs(redis.call('ZMSCORE', k.running, unpack(members))) do
                local run, member = runs[i], members[i]
                if not score and not seen[member] then
                    seen[member] = true
                    values[#values + 1], values[#values + 2] = run.deadline, member
                    occupy(call, run.organization, run.device, 1)
                    count(call, 'r' .. run.organization, 1)
                end
            end
            if #values > 0 then redis.call('ZADD', k.running, unpack(values)) end
            return #values / 2
        end

        local ENDING = {
            'live', 'depth', 'returned', 'slots', 'leases', 'running', 'due', 'held', 'marks', 'ready',
            'finish', 'caps', 'paused', 'bell', 'virtual', 'credits', 'lanes', 'taken', 'wanted',
        }

        -- deadline, how many are dispatched, then leases: the dispatched, after them the dropped
        -- → started, lost (leases that were reclaimed before)
        define('acknowledge', FREE, ENDING, function(call, k, args)
            local dispatched, leases = tonumber(args[3]), {unpack(args, 4)}
            local ended, lives, forgotten, running, lost = {}, {}, {}, {}, 0
            for i, claim in ipairs(endLeases(call, k, leases)) do
                if claim.held then
                    ended[#ended + 1] = claim
                else
                    lost = lost + 1
                end
                if i > dispatched then
                    if claim.held and claim.current then forgotten[#forgotten + 1] = claim.run end
                elseif claim.current then
                    -- It is dispatched for certain: what a reclaim has put back must not be claimed again.
                    if not claim.held then withdraw(call, k, claim.organization, claim.priority, claim.id) end
                    claim.deadline = args[2]
                    running[#running + 1] = claim
                    lives[#lives + 1] = claim.run
                    lives[#lives + 1] = claim.generation
                end
            end
            discardAll(call, ended)
            if #forgotten > 0 then leaveLive(call, k, forgotten) end
            if #lives > 0 then redis.call('HSET', k.live, unpack(lives)) end
            local started = start(call, k, running)
            conclude(call, k)
            return {started, lost}
        end)

        -- delay in milliseconds, then leases → how many wait again
        define('release', FREE, ENDING, function(call, k, args)
            local delay, released, ended = tonumber(args[2]), 0, {}
            local due = decimal(now() + delay)
            for _, claim in ipairs(endLeases(call, k, {unpack(args, 3)})) do
                if claim.held then
                    if not claim.current then
                        ended[#ended + 1] = claim
                    elseif delay > 0 then
                        give(call, claim.organization, claim.priority, 'delayed', claim.id)
                        local member = claim.organization .. ' ' .. claim.priority .. ' ' .. claim.id
                        redis.call('ZADD', k.due, due, member)
                        released = released + 1
                    else
                        giveBack(call, claim.organization, claim.priority, claim.id)
                        released = released + 1
                    end
                end
            end
            discardAll(call, ended)
            conclude(call, k)
            return released
        end)

        -- Ends these memberships; returns how many there were. A run whose result overtook its
        -- acknowledgement leaves `live` here, by which `acknowledge` knows that it is not to start.
        local function settle(call, k, rows, first)
            local members, runs, settled = {}, {}, 0
            for i = first, #rows, 4 do
                members[#members + 1] = membership(rows[i], rows[i + 1], rows[i + 2], rows[i + 3])
                runs[#runs + 1] = rows[i + 1]
            end
            if #members == 0 then return 0 end
            local deadlines, seen, forgotten = redis.call('ZMSCORE', k.running, unpack(members)), {}, {}
            redis.call('ZREM', k.running, unpack(members))
            for i, live in ipairs(lookUp(k, runs)) do
                local at = first + 4 * (i - 1)
                local organization, generation, device = rows[at], tonumber(rows[at + 2]), rows[at + 3]
                if deadlines[i] and not seen[members[i]] then
                    seen[members[i]] = true
                    occupy(call, organization, device, -1)
                    count(call, 'r' .. organization, -1)
                    settled = settled + 1
                end
                if live.generation >= 0 and live.generation <= generation then
                    if live.id then withdraw(call, k, organization, live.priority, live.id) end
                    forgotten[#forgotten + 1] = runs[i]
                end
            end
            if #forgotten > 0 then leaveLive(call, k, forgotten) end
            return settled
        end

        -- {organization, run, generation, device}… → how many were members
        define('settle', FREE, ENDING, function(call, k, args)
            local settled = settle(call, k, args, 2)
            conclude(call, k)
            return settled
        end)

        -- Puts the entries of these leases back to the head of their queues; returns {lease, crashes}…
        local function giveUp(call, k, leases, crash)
            local reply, ended, lives = {}, {}, {}
            for _, claim in ipairs(endLeases(call, k, leases)) do
                if claim.held and claim.current then
                    local crashes = claim.crashes + crash
                    giveBack(call, claim.organization, claim.priority, claim.id)
                    lives[#lives + 1] = claim.run
                    lives[#lives + 1] = claim.generation .. ' ' .. claim.priority .. ' ' .. claim.id
                        .. ' ' .. crashes
                    reply[#reply + 1] = claim.lease
                    reply[#reply + 1] = crashes
                elseif claim.held then
                    ended[#ended + 1] = claim
                end
            end
            discardAll(call, ended)
            if #lives > 0 then redis.call('HSET', k.live, unpack(lives)) end
            conclude(call, k)
            return reply
        end

        -- limit → leases that have expired
        define('lapsed', {'no-writes'}, {'leases'}, function(call, k, args)
            return redis.call('ZRANGEBYSCORE', k.leases, '-inf', decimal(now()), 'LIMIT', 0, args[2])
        end)

        -- limit → {lease, crashes}… of leases that have expired
        define('reclaim', FREE, ENDING, function(call, k, args)
            local limit = math.min(tonumber(args[2]), RUNS_A_CALL)
            local expired = redis.call('ZRANGEBYSCORE', k.leases, '-inf', decimal(now()), 'LIMIT', 0, limit)
            return giveUp(call, k, expired, 1)
        end)

        -- The leases of one owner on one page of the scan, and the cursor of the next.
        local function ofOwner(k, owner, cursor)
            local pattern, leases = owner .. ' *', {}
            local page = redis.call('ZSCAN', k.leases, cursor, 'MATCH', pattern, 'COUNT', RUNS_A_CALL)
            for i = 1, #page[2], 2 do leases[#leases + 1] = page[2][i] end
            return page[1], leases
        end

        -- owner, cursor, crash (0 or 1) → cursor, then {lease, crashes}…
        define('disown', FREE, ENDING, function(call, k, args)
            local cursor, leases = ofOwner(k, args[2], args[3])
            return {cursor, unpack(giveUp(call, k, leases, tonumber(args[4])))}
        end)

        -- owner, cursor, lease milliseconds → cursor, how many were extended
        define('renew', FREE, {'leases'}, function(call, k, args)
            local cursor, leases = ofOwner(k, args[2], args[3])
            local deadline, values = decimal(now() + tonumber(args[4])), {}
            for i, lease in ipairs(leases) do values[2 * i - 1], values[2 * i] = deadline, lease end
            if #values > 0 then redis.call('ZADD', k.leases, 'XX', unpack(values)) end
            return {cursor, #leases}
        end)
        """#
}
