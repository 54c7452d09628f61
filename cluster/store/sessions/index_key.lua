-- Lists a key with one of the users involved in it.
-- KEYS[1] = conclave:index:{user}:keys   zset
-- ARGV[1] = key id
-- ARGV[2] = its score, ms of its creation
-- ARGV[3] = 1 to write also when Redis is full: what is listed ends a session
-- When Redis is full: refused; goes on with ARGV[3]
-- returns  1
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[1], '') -- nothing, and not refused
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
return 1
