-- lock: take a lock unless another holds it, and load what it guards.
--
-- KEYS[1] lock:{id}  string, the token of its holder
-- KEYS[2]            hash that is loaded; left out where nothing is
-- ARGV[1] token; who has taken the lock with it takes it again
-- ARGV[2] ms that it lasts
--
-- When Redis is full: goes on.
-- Returns {} when another holds it, else {seconds, microseconds, field, value, …}
-- of the hash, of which there may be none.
local lock, guarded = KEYS[1], KEYS[2]
local token, ttl = ARGV[1], ARGV[2]

local holder = redis.call('GET', lock)
if holder and holder ~= token then return {} end
redis.call('DEL', lock) -- first, so that the rest is not refused
redis.call('SET', lock, token, 'PX', ttl)
local reply = redis.call('TIME')
if guarded then
  for i, part in ipairs(redis.call('HGETALL', guarded)) do
    reply[2 + i] = part
  end
end
return reply
