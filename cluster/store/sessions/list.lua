-- Lists a session with one of the users involved in it, where create cannot.
-- KEYS[1] = conclave:index:{user}:sessions   zset
-- ARGV[1] = session id
-- ARGV[2] = its score, ms of its creation
-- ARGV[3] = ms that the list lives on from its newest session
-- ARGV[4] = the score before which no listed session can exist any more
-- When Redis is full: refused
-- returns  1
index(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
