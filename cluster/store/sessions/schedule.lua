-- Puts a session on the due list, or moves it there.
-- KEYS[1] = conclave:sessions:due   zset, scores in ms, microseconds behind the point
-- ARGV[1] = session id
-- ARGV[2] = its score
-- When Redis is full: goes on
-- returns  1
redis.call('ZREM', KEYS[1], '') -- nothing, and not refused
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 1
