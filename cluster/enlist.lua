-- enlist: put a node on the list of nodes, or say that it is alive.
--
-- KEYS[1] nodes  zset, node ids by the last heartbeat, ms
-- ARGV[1] node id, ARGV[2] ms
--
-- When Redis is full: goes on.
-- Returns 1.
local nodes, id, now = KEYS[1], ARGV[1], ARGV[2]

redis.call('ZREM', nodes, '') -- nothing, and not refused
redis.call('ZADD', nodes, now, id)
return 1
