"""What the mount tests stand on: processes that can't hang the suite, the service, the mounts.

child     functions and shell commands in processes of their own, with a time limit
service   the stand-in service and its request log
mount     one jotsfs process with mountpoint, state directory and log
mounts    those of one test, and that nothing of them is left behind
table     the kernel's mount table
processes finding and ending processes by what they were started with
report    what a log or a sanitizer says
"""
