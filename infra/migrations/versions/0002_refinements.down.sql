DROP VIEW refined_families;
DROP TABLE template_refinements;
