-- Lists a key with one of the users involved in it.
-- KEYS[1] = conclave:index:{user}:keys   zset
-- ARGV[1] = key id
-- ARGV[2] = its score, ms of its creation
-- When Redis is full: refused
-- returns  1
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 1
