-- beat: renew a node's record and its lease.
--
-- KEYS[1] node:{id}  hash
-- ARGV[1] time to live, ms
-- ARGV[2] started_at of the process (RFC 3339, UTC, ms)
-- ARGV[3..] further field and value pairs
--
-- When Redis is full: goes on. Where the lease cannot be set there is no record.
-- Returns 1; 0 when a process that started later has the id, and then nothing
-- changes.
local node, ttl, started = KEYS[1], ARGV[1], ARGV[2]

local other = redis.call('HGET', node, 'started_at')
if other and other > started then return 0 end
redis.call('HDEL', node, '') -- nothing, and not refused
redis.call('HSET', node, 'started_at', started, unpack(ARGV, 3))
local expires = redis.pcall('PEXPIRE', node, ttl)
if type(expires) == 'table' then
  redis.call('DEL', node) -- rather none than one that outlives its node
  return expires
end
return 1
