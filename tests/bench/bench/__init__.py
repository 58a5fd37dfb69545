"""What jotsfs costs, as ratios within one run.

candidate  who offers a directory: jotsfs, the bare FUSE floor, a plain local directory; peers will join here
stage      an account, and every candidate with the same files
timing     repetitions in alternating order, and their median
report     rows, aims, the table
work       what is timed: plain system calls, as programs make them
http_calls one request after the other, as the service's own clients work
jobs_*     what is measured, by subject; each is a function from a stage to rows
"""
