"""What is wrong with a data set: one module a group of checks; `mriad_data.checking.run.check_data` runs them."""
