-- join: make one connection the live socket of its member. (After
-- generations.lua and mailbox.lua.)
--
-- KEYS[1] presence:{member}       hash
-- KEYS[2] mailbox:{member}        stream
-- KEYS[3] mailbox:{member}:usage  hash
-- KEYS[4] seen:{member}           set
-- KEYS[5] joined:{member}         string
-- KEYS[6] mailbox:{member}:generations  string
-- ARGV[1] node, ARGV[2] conn, ARGV[3] role, ARGV[4] since (RFC 3339)
-- ARGV[5] the newest seq the client has received, 0 = none
-- ARGV[6] channel prefix to publish under, or '' to leave publishing to the caller
-- ARGV[7] ms, the time after which it is too late: the client has given this
--         connection up by then, and may have made another
-- ARGV[8] time to live of mailbox, usage, seen and generations, ms, for what waited
--         for a member that had never joined
-- ARGV[9] time to live of joined, ms
-- ARGV[10] now (RFC 3339, by Redis's clock), for joined
--
-- When Redis is full: goes on.
-- Returns {} when it is too late, else {newest seq of the mailbox, 1 if it holds
-- entries after ARGV[5] else 0, node and conn of the socket that was live until now,
-- '' when there was none, µs that tell earlier joins from later ones, what judge
-- says of ARGV[5]}. A notice to the old socket that cannot be published is found
-- out by its node.
local presence, mailbox, usage, seen, joined, generations = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local node, conn, role, since = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local after, channels = ARGV[5], ARGV[6]

local time = redis.call('TIME')
if time[1] * 1000 + time[2] / 1000 > tonumber(ARGV[7]) then return {} end

redis.call('HDEL', presence, '') -- nothing, and not refused
local last = newest(mailbox)
local verdict = judge(mailbox, generations, tonumber(after), last)
if verdict == 'foreign' then last = renumber(mailbox, usage, generations, tonumber(after)) end
local waiting = #redis.call('XRANGE', mailbox, '(0-' .. after, '+', 'COUNT', 1)

local old = redis.call('HMGET', presence, 'node', 'conn', 'at')
local at = text(math.max(time[1] * 1000000 + time[2], (tonumber(old[3]) or 0) + 1))
redis.call('HSET', presence, 'node', node, 'conn', conn, 'role', role, 'since', since, 'seq', text(last), 'at', at)
redis.call('SET', joined, ARGV[10], 'PX', ARGV[9])
if redis.call('HDEL', usage, 'unseen') == 1 then
  -- What waited for a member that might not exist has found it.
  for _, key in ipairs({mailbox, usage, seen, generations}) do redis.call('PEXPIRE', key, ARGV[8]) end
end
-- The same connection again is a repeated call whose first reply was lost.
if old[2] and old[2] ~= conn then
  if channels ~= '' then
    redis.pcall('PUBLISH', channels .. old[1], 's ' .. old[2])
  end
  return {text(last), waiting, old[1], old[2], at, verdict}
end
return {text(last), waiting, '', '', at, verdict}
