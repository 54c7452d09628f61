-- retire: remove a node's record if it still is that of the process.
--
-- KEYS[1] node:{id}  hash
-- ARGV[1] started_at of the process
--
-- When Redis is full: goes on.
-- Returns 1 when removed, 0 when it is another process's or gone.
local node, started = KEYS[1], ARGV[1]

if redis.call('HGET', node, 'started_at') ~= started then return 0 end
return redis.call('DEL', node)
